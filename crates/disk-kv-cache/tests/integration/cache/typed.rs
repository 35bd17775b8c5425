//! Typed values: a changed type is a miss.

use std::time::Duration;

use alluvium_disk_kv_cache::{Json, Order, Record, SetOptions, TypeTag, TypedCache, TypedError, memoize};
use serde::{Deserialize, Serialize};

use super::support::{Fixture, settings};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Invoice {
    number: u64,
    lines: Vec<String>,
}

impl Record for Invoice {
    const TYPE: &'static str = "invoice";
    const VERSION: u32 = 1;
}

fn invoice(number: u64) -> Invoice {
    Invoice { number, lines: vec!["x".repeat(number as usize * 100)] }
}

#[test]
fn values_come_back_as_their_type() {
    let f = Fixture::new(settings());
    let cache: TypedCache<(String, u32), Invoice> = TypedCache::new(f.cache.clone(), TypeTag::new("invoice", 1));
    let key = |n: u32| ("eu".to_owned(), n);
    cache.set_with(&key(1), &invoice(1), &SetOptions::new().with_tag("t")).unwrap();
    cache.set(&key(20), &invoice(20)).unwrap();
    assert_eq!(cache.get(&key(1)).unwrap(), Some(invoice(1)));
    assert_eq!(cache.get_item(&key(1)).unwrap().unwrap().tags, ["t"]);
    let items: Vec<_> =
        cache.items(Order::Ascending).map(|item| item.unwrap()).map(|(key, item)| (key, item.value)).collect();
    assert_eq!(items, [(key(1), invoice(1)), (key(20), invoice(20))]);
    assert!(!cache.add(&key(1), &invoice(2), &SetOptions::new()).unwrap());
    assert!(cache.touch(&key(1), Some(Duration::ZERO)).unwrap());
    assert!(cache.add(&key(1), &invoice(2), &SetOptions::new()).unwrap());
    assert_eq!(cache.pop(&key(1)).unwrap().unwrap().value, invoice(2));
    assert!(cache.delete(&key(20)).unwrap());
    assert_eq!((cache.cache().len().unwrap(), cache.mismatches()), (0, 0));
    f.cache.set(&7, b"").unwrap();
    assert_eq!(cache.items(Order::Ascending).count(), 0);
}

#[test]
fn another_version_type_codec_or_shape_is_a_miss() {
    #[derive(Debug, Serialize, Deserialize)]
    struct Changed {
        number: String,
    }
    let f = Fixture::new(settings());
    let first: TypedCache<str, Invoice> = TypedCache::new(f.cache.clone(), TypeTag::new("invoice", 1));
    first.set("key", &invoice(1)).unwrap();
    let version: TypedCache<str, Invoice> = TypedCache::new(f.cache.clone(), TypeTag::new("invoice", 2));
    let name: TypedCache<str, Invoice> = TypedCache::new(f.cache.clone(), TypeTag::new("order", 1));
    let codec: TypedCache<str, Invoice, Json> = TypedCache::new(f.cache.clone(), TypeTag::new("invoice", 1));
    let shape: TypedCache<str, Changed> = TypedCache::new(f.cache.clone(), TypeTag::new("invoice", 1));
    assert!(version.get("key").unwrap().is_none());
    assert!(name.get("key").unwrap().is_none());
    assert!(codec.get("key").unwrap().is_none());
    assert!(shape.get("key").unwrap().is_none());
    assert_eq!((version.mismatches(), shape.clone().mismatches(), first.mismatches()), (1, 1, 0));
    assert_eq!(first.get("key").unwrap(), Some(invoice(1)));
    // What is a miss can be added.
    assert!(codec.add("key", &invoice(3), &SetOptions::new()).unwrap());
    assert_eq!(codec.get("key").unwrap(), Some(invoice(3)));
    let raw = f.cache.get("key").unwrap().unwrap();
    assert!(raw.ends_with(br#""]}"#), "JSON, to be read with other tools");
    f.cache.set("key", b"not typed").unwrap();
    assert!(first.get("key").unwrap().is_none());
    assert!(first.pop("key").unwrap().is_none());
}

#[test]
fn a_typed_cache_and_a_record_are_stored_alike() {
    let f = Fixture::new(settings());
    let cache: TypedCache<str, Invoice> = TypedCache::new(f.cache.clone(), TypeTag::new("invoice", 1));
    let never = || Err::<Invoice, _>("it is there");
    cache.set("key", &invoice(1)).unwrap();
    assert_eq!(memoize(&f.cache, "key", &SetOptions::new(), never).unwrap(), invoice(1));
    let json: TypedCache<str, Invoice, Json> = TypedCache::new(f.cache.clone(), TypeTag::new("invoice", 1));
    json.set("key", &invoice(2)).unwrap();
    let anew = memoize(&f.cache, "key", &SetOptions::new(), || Ok::<_, &str>(invoice(3)));
    assert_eq!(anew.unwrap(), invoice(3), "another codec is another form");
    assert_eq!(cache.get("key").unwrap(), Some(invoice(3)));
}

#[test]
fn what_cannot_be_written_is_an_error() {
    struct Never;
    impl Serialize for Never {
        fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            Err(serde::ser::Error::custom("on purpose"))
        }
    }
    impl<'de> Deserialize<'de> for Never {
        fn deserialize<D: serde::Deserializer<'de>>(_: D) -> Result<Never, D::Error> {
            Err(serde::de::Error::custom("on purpose"))
        }
    }
    let f = Fixture::new(settings());
    let cache: TypedCache<str, Never, Json> = TypedCache::new(f.cache.clone(), TypeTag::new("never", 1));
    assert!(matches!(cache.set("key", &Never), Err(TypedError::Codec(_))));
    assert!(f.cache.is_empty().unwrap());
}
