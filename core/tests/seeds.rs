//! Seeds: distinct for what is distinct, the same for what is the same.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::HashSet;

use imagent_core::{Key, derive, seed};
use proptest::prelude::*;
use rand::Rng;

fn any_parts() -> impl Strategy<Value = Vec<u64>> {
    let part = prop_oneof![0u64..4, Just(u64::MAX), any::<u64>()];
    prop::collection::vec(part, 0..5)
}

proptest! {
    #[test]
    fn distinct_names_give_distinct_seeds(a in (0u64..3, any_parts()), b in (0u64..3, any_parts())) {
        prop_assert_eq!(a == b, derive(a.0, &a.1) == derive(b.0, &b.1));
    }

    #[test]
    fn distinct_rollouts_have_distinct_keys(
        a in (0u64..3, 0u64..3, "[ab]{0,2}", 0u64..3),
        b in (0u64..3, 0u64..3, "[ab]{0,2}", 0u64..3),
    ) {
        let key = |(seed, round, id, index): &(u64, u64, String, u64)| Key::new(*seed, *round, id, *index);
        prop_assert_eq!(a == b, key(&a) == key(&b));
    }

    #[test]
    fn tokens_of_a_rollout_are_drawn_apart(key in any::<u64>(), position in 0u64..1000) {
        let draw = |position| Key(key).rng(position).random::<u64>();
        prop_assert_eq!(draw(position), draw(position));
        prop_assert!(draw(position) != draw(position + 1));
    }
}

#[test]
fn a_hundred_thousand_neighbours_do_not_collide() {
    let keys: HashSet<u64> =
        (0..10u64).flat_map(|seed| (0..100).flat_map(move |a| (0..100).map(move |b| derive(seed, &[a, b])))).collect();
    assert_eq!(keys.len(), 100_000);
    let names: HashSet<u64> = (0..10_000).map(|i| seed::text(&format!("sample-{i}"))).collect();
    assert_eq!(names.len(), 10_000);
}

#[test]
fn seeds_do_not_change_between_versions() {
    // A run is a function of its seed: changing these numbers breaks every run that is to be repeated.
    assert_eq!(derive(0, &[]), 0xe220_a839_7b1d_cdaf);
    assert_eq!(seed::text("a"), 0xaf63_dc4c_8601_ec8c);
    assert_eq!(Key::new(1, 2, "a", 3).0, derive(1, &[2, seed::text("a"), 3]));
}
