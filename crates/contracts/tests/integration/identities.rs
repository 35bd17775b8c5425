//! Identities do not mix: checked by the compiler, for every pair of them.
//!
//! That a value of one type is no value of another holds where the types are distinct and none turns into another by
//! itself. `distinct!` lists the types once; if two were one type, or one could be made of, compared with or borrowed as
//! another, this module would not compile.

use alluvium_contracts::{
    ArtifactId, CacheKey, CommitId, ContentDigest, DecimalI64, DecimalU64, EntryId, FunctionHash, LayoutHash,
    PinDigest, PlanFingerprint, PlanSignature, ProfileHash, RootId, RowsDigest, RunId, SchemaHash, SqlPolicyHash,
    StoreId, SubstraitHash,
};

/// Implemented for each identity: twice for one type would be a conflict.
trait Identity {
    const NAME: &'static str;
}

/// Asserts that `$one` does not implement any of the traits: if it did, which implementation is meant would be ambiguous.
macro_rules! implements_none {
    ($one:ty: $($conversion:path),+) => {
        const _: fn() = || {
            trait Ambiguous<Which> {
                fn here() {}
            }
            impl<T: ?Sized> Ambiguous<()> for T {}
            $({
                struct If;
                impl<T: ?Sized + $conversion> Ambiguous<If> for T {}
            })+
            let _ = <$one as Ambiguous<_>>::here;
        };
    };
}

/// Each of a list against each that follows it, both ways.
macro_rules! pairs {
    ([]) => {};
    ([$one:ident $($rest:ident)*]) => {
        impl Identity for $one {
            const NAME: &'static str = stringify!($one);
        }
        // Whatever it could be dereferenced to would be taken in its place.
        implements_none!($one: std::ops::Deref);
        pairs!(@each $one [$($rest)*]);
        pairs!([$($rest)*]);
    };
    (@each $one:ident [$($other:ident)*]) => {
        $(
            implements_none!($one: From<$other>, PartialEq<$other>, PartialOrd<$other>, AsRef<$other>, std::borrow::Borrow<$other>);
            implements_none!($other: From<$one>, PartialEq<$one>, PartialOrd<$one>, AsRef<$one>, std::borrow::Borrow<$one>);
        )*
    };
}

macro_rules! distinct {
    ($($name:ident),+ $(,)?) => {
        pairs!([$($name)+]);

        const NAMES: &[&str] = &[$(<$name as Identity>::NAME),+];
    };
}

distinct!(
    ArtifactId,
    CacheKey,
    CommitId,
    ContentDigest,
    DecimalI64,
    DecimalU64,
    EntryId,
    FunctionHash,
    LayoutHash,
    PinDigest,
    PlanFingerprint,
    PlanSignature,
    ProfileHash,
    RootId,
    RowsDigest,
    RunId,
    SchemaHash,
    SqlPolicyHash,
    StoreId,
    SubstraitHash,
);

/// The list is whole: every type that the macros of identities make is in it.
#[test]
fn every_identity_is_held_against_every_other() {
    let sources =
        [include_str!("../../src/digest.rs"), include_str!("../../src/ids.rs"), include_str!("../../src/decimal.rs")];
    let mut made = Vec::new();
    for source in sources {
        let mut invocation = false;
        for line in source.lines() {
            match line {
                "digest!(" | "id!(" | "decimal!(" => invocation = true,
                ");" => invocation = false,
                _ if invocation && !line.trim_start().starts_with("///") => {
                    made.push(line.trim().split(',').next().unwrap_or_default());
                    invocation = false;
                }
                _ => {}
            }
        }
    }
    made.sort_unstable();
    assert_eq!(made, NAMES);
}
