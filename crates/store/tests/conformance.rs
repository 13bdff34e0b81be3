//! The router's suite for stores, on real files.

mod support;

use router::conformance::Fixture;
use router::outbox::Storage;
use router::tag::Tagger;
use store::{Options, Store};
use support::{Place, key};

struct Files(Place);

impl Fixture for Files {
    fn open(&mut self, tagger: Tagger) -> Box<dyn Storage> {
        Box::new(Store::open(&self.0.file(), &key(), tagger, Options::default()).expect("it opens"))
    }
}

router::storage_conformance!(Files(Place::new()));
