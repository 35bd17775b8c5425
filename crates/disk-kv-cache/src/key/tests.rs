//! Order, uniqueness and round trips of encoded keys; and that the bytes stay what they are.

use std::fmt::Debug;

use proptest::prelude::*;

use super::*;

fn bytes(key: impl Key) -> Vec<u8> {
    key.to_key().0
}

fn round<K: Key + FromKey + PartialEq + Debug>(key: K) {
    assert_eq!(key.to_key().decode::<K>().as_ref(), Ok(&key));
    let encoded = key.to_key();
    assert_eq!(KeyBuf::from_bytes(encoded.0.clone()), Ok(encoded));
}

#[test]
fn the_bytes_are_those_of_the_tuple_layer() {
    assert_eq!(bytes("foo\0bar"), b"\x02foo\x00\xFFbar\x00");
    assert_eq!(bytes(b"foo\0bar".as_slice()), b"\x01foo\x00\xFFbar\x00");
    assert_eq!(bytes(0), [0x14]);
    assert_eq!(bytes(1_u8), [0x15, 1]);
    assert_eq!(bytes(255_i64), [0x15, 255]);
    assert_eq!(bytes(256), [0x16, 1, 0]);
    assert_eq!(bytes(-1), [0x13, 0xFE]);
    assert_eq!(bytes(-5_551_212), [0x11, 0xAB, 0x4B, 0x93]);
    assert_eq!(bytes(u64::MAX), [0x1C, 255, 255, 255, 255, 255, 255, 255, 255]);
    assert_eq!(bytes(i64::MIN), [0x0C, 0x7F, 255, 255, 255, 255, 255, 255, 255]);
    assert_eq!(bytes(1_u128 << 64), [0x1D, 9, 1, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(bytes(-(1_i128 << 64)), [0x0B, !9, 0xFE, 255, 255, 255, 255, 255, 255, 255, 255]);
    assert_eq!(bytes(1.0), [0x21, 0xBF, 0xF0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(bytes(-1.0), [0x21, 0x40, 0x0F, 255, 255, 255, 255, 255, 255]);
    assert_eq!((bytes(false), bytes(true)), (vec![0x26], vec![0x27]));
    assert_eq!(
        bytes(("a", (1, ""), [7; 16])),
        [b"\x05\x02a\0\x05\x15\x01\x02\0\0\x30".as_slice(), &[7; 16], b"\0"].concat()
    );
}

#[test]
fn unlike_keys_do_not_collide() {
    let keys = [
        "1".to_key(),
        b"1".as_slice().to_key(),
        1.to_key(),
        1.0.to_key(),
        true.to_key(),
        (1,).to_key(),
        ((1,),).to_key(),
        ("1",).to_key(),
        ("a", "b").to_key(),
        ("ab",).to_key(),
        ("a\0", "b").to_key(),
        ("a", "\0b").to_key(),
        "".to_key(),
        ("",).to_key(),
        ("", "").to_key(),
    ];
    for (at, one) in keys.iter().enumerate() {
        for other in &keys[..at] {
            assert_ne!(one, other);
        }
    }
    assert_eq!(1_u8.to_key(), 1_i128.to_key());
    assert_eq!(0.5_f32.to_key(), 0.5_f64.to_key());
}

#[test]
fn the_extremes_of_every_integer_come_back() {
    macro_rules! extremes {
        ($($integer:ty),*) => {$(
            for key in [<$integer>::MIN, <$integer>::MAX, 0, 1, <$integer>::MAX / 2, <$integer>::MIN / 2] {
                round(key);
            }
        )*};
    }
    extremes!(u8, u16, u32, u64, u128, usize, i8, i16, i32, i64, i128, isize);
    assert_eq!(256.to_key().decode::<u8>(), Err(KeyError::Range { expected: "u8" }));
    assert_eq!((-1).to_key().decode::<u128>(), Err(KeyError::Range { expected: "u128" }));
    assert_eq!(u128::MAX.to_key().decode::<i128>(), Err(KeyError::Range { expected: "i128" }));
}

#[test]
fn what_is_not_a_key_is_refused() {
    for bad in [
        b"".as_slice(),
        b"\x00",
        b"\x02a",
        b"\x02\xFF\x00",
        b"\x05\x14",
        b"\x15",
        b"\x14\x14",
        b"\x1D\x11",
        b"\x1D\xFF",
        b"\x99",
        b"\x30short",
    ] {
        assert!(KeyBuf::from_bytes(bad.to_vec()).is_err(), "{bad:?}");
    }
    assert!(KeyBuf::from_bytes(vec![TUPLE; 1 << 20]).is_err());
    assert_eq!(1.to_key().decode::<String>(), Err(KeyError::Kind { expected: "text", found: 0x15 }));
    assert_eq!((1, 2).to_key().decode::<(u8,)>(), Err(KeyError::Kind { expected: "end of the tuple", found: 0x15 }));
    assert!((1,).to_key().decode::<(u8, u8)>().is_err());
}

#[test]
fn debug_shows_the_key() {
    let key = ("a\"b", b"\0".as_slice(), -7, 1.5, true, ((),)).to_key();
    assert_eq!(format!("{key:?}"), r#"("a\"b", b"\x00", -7, 1.5, true, ((),))"#);
}

/// Nothing inside a tuple, for the sake of a test.
impl Key for () {
    fn encode_into(&self, out: &mut Vec<u8>) {
        out.extend([TUPLE, END]);
    }
}

fn text() -> impl Strategy<Value = String> {
    proptest::collection::vec(prop::sample::select(vec!['\0', '\u{1}', 'a', 'ÿ', '\u{10FFFF}']), 0..5)
        .prop_map(String::from_iter)
}

fn blob() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(prop::sample::select(vec![0, 1, 5, 0x14, 254, 255]), 0..5)
}

fn integer() -> impl Strategy<Value = i128> {
    (any::<i128>(), 0..127_u32).prop_map(|(value, shift)| value >> shift)
}

proptest! {
    #[test]
    fn order_is_kept_and_everything_comes_back(
        a in (text(), blob(), integer(), any::<f64>()),
        b in (text(), blob(), integer(), any::<f64>()),
        same in 0..4_u8,
    ) {
        // Equal beginnings, so that every element gets to decide.
        let b = (
            if same > 0 { a.0.clone() } else { b.0 },
            if same > 1 { a.1.clone() } else { b.1 },
            if same > 2 { a.2 } else { b.2 },
            b.3,
        );
        let order = (&a.0, &a.1, &a.2).cmp(&(&b.0, &b.1, &b.2)).then(a.3.total_cmp(&b.3));
        prop_assert_eq!(a.to_key().cmp(&b.to_key()), order);
        prop_assert_eq!(a.0.to_key().cmp(&b.0.to_key()), a.0.cmp(&b.0));
        prop_assert_eq!(a.1.to_key().cmp(&b.1.to_key()), a.1.cmp(&b.1));
        prop_assert_eq!(a.2.to_key().cmp(&b.2.to_key()), a.2.cmp(&b.2));
        let back = a.to_key().decode::<(String, Vec<u8>, i128, f64)>().unwrap();
        prop_assert_eq!((&back.0, &back.1, back.2, back.3.to_bits()), (&a.0, &a.1, a.2, a.3.to_bits()));
        prop_assert_eq!((a.0, (a.1, a.2)).to_key().decode::<(String, (Vec<u8>, i128))>().is_ok(), true);
    }

    #[test]
    fn no_bytes_make_decoding_panic(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
        if let Ok(key) = KeyBuf::from_bytes(bytes.clone()) {
            let _ = format!("{key:?}");
        }
        let _ = KeyBuf(bytes).decode::<(String, i64)>();
    }
}

fn element() -> impl Strategy<Value = KeyElement> {
    let leaf = prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..5).prop_map(KeyElement::Bytes),
        any::<String>().prop_map(KeyElement::Text),
        (any::<bool>(), 0..128_u32, any::<u128>())
            .prop_map(|(negative, shift, bits)| (negative, bits >> shift))
            .prop_map(|(negative, magnitude)| KeyElement::Integer { negative: negative && magnitude > 0, magnitude }),
        prop::num::f64::NORMAL.prop_map(KeyElement::Float),
        any::<bool>().prop_map(KeyElement::Bool),
        any::<[u8; 16]>().prop_map(KeyElement::Fixed),
    ];
    leaf.prop_recursive(4, 20, 5, |inner| proptest::collection::vec(inner, 0..5).prop_map(KeyElement::Tuple))
}

proptest! {
    #[test]
    fn keys_of_any_kind_come_apart_and_together_again(element in element()) {
        round(element);
    }
}

#[test]
fn elements_are_what_typed_keys_are_made_of() {
    let integer = |negative, magnitude| KeyElement::Integer { negative, magnitude };
    for (key, element) in [
        ("a".to_key(), KeyElement::Text("a".to_owned())),
        (0.to_key(), integer(false, 0)),
        (i128::MIN.to_key(), integer(true, 1 << 127)),
        (u128::MAX.to_key(), integer(false, u128::MAX)),
        ((true, 0.5).to_key(), KeyElement::Tuple(vec![KeyElement::Bool(true), KeyElement::Float(0.5)])),
    ] {
        assert_eq!((key.decode::<KeyElement>().as_ref(), element.to_key()), (Ok(&element), key));
    }
    let nested = |depth| (0..depth).fold(KeyElement::Bool(true), |inner, _| KeyElement::Tuple(vec![inner])).to_key();
    assert!(KeyBuf::from_bytes(nested(KeyElement::MAX_DEPTH).0).is_ok());
    assert!(KeyBuf::from_bytes(nested(KeyElement::MAX_DEPTH + 1).0).is_err());
}
