//! Coordinate frames and the image shelf.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::Arc;

use image::RgbImage;
use imagent_core::{BBox, CropOrigin, Frame, ImageShelf, ImageSizes, Original, Relative1000, Shown, Size, Unit};
use proptest::prelude::*;

fn any_size() -> impl Strategy<Value = Size> {
    (1u32..5000, 1u32..5000).prop_map(|(width, height)| Size::new(width, height))
}

fn any_sizes() -> impl Strategy<Value = ImageSizes> {
    (any_size(), any_size()).prop_map(|(original, shown)| ImageSizes { original, shown })
}

fn any_box() -> impl Strategy<Value = [f64; 4]> {
    prop::array::uniform4(-2000.0f64..6000.0)
}

/// Equal up to rounding, relative to the larger coordinate.
fn close<F: Frame>(a: BBox<F>, b: BBox<F>) -> bool {
    a.to_array().iter().zip(b.to_array()).all(|(a, b)| (a - b).abs() <= 1e-9 * (1.0 + a.abs()))
}

proptest! {
    #[test]
    fn generalised_overlap(a in any_box(), b in any_box()) {
        let whole = |[x1, y1, w, h]: [f64; 4]| BBox::<Shown>::new(x1, y1, x1 + w.abs() + 1.0, y1 + h.abs() + 1.0);
        let (a, b) = (whole(a), whole(b));
        let (giou, iou) = (a.giou(b), a.iou(b));
        prop_assert!((-1.0..=1.0).contains(&giou) && giou <= iou);
        prop_assert_eq!(giou, b.giou(a));
        prop_assert!((a.giou(a) - 1.0).abs() < 1e-9);
        let empty = BBox::<Shown>::new(a.x1, a.y1, a.x1, a.y1);
        prop_assert_eq!(empty.giou(empty), -1.0);
        prop_assert!(empty.giou(a) <= 0.0);
    }

    #[test]
    fn frames_round_trip(corners in any_box(), sizes in any_sizes()) {
        fn trip<F: Frame, G: Frame>(corners: [f64; 4], sizes: &ImageSizes) -> bool {
            let bbox = BBox::<F>::from(corners);
            close(bbox.to::<G>(sizes).to::<F>(sizes), bbox)
        }
        prop_assert!(trip::<Shown, Original>(corners, &sizes) && trip::<Original, Shown>(corners, &sizes));
        prop_assert!(trip::<Shown, Unit>(corners, &sizes) && trip::<Unit, Original>(corners, &sizes));
        prop_assert!(trip::<Relative1000, Shown>(corners, &sizes) && trip::<Original, Relative1000>(corners, &sizes));
        // By way of a third frame or straight.
        let bbox = BBox::<Shown>::from(corners);
        prop_assert!(close(bbox.to::<Unit>(&sizes).to::<Original>(&sizes), bbox.to::<Original>(&sizes)));
    }

    #[test]
    fn the_same_frame_is_the_same_box(corners in any_box(), sizes in any_sizes()) {
        let bbox = BBox::<Shown>::from(corners);
        prop_assert_eq!(bbox.to::<Shown>(&sizes), bbox);
    }

    #[test]
    fn the_whole_image_is_whole_in_every_frame(sizes in any_sizes()) {
        let whole = BBox::<Unit>::new(0.0, 0.0, 1.0, 1.0);
        let size = |size: Size| [0.0, 0.0, f64::from(size.width), f64::from(size.height)];
        prop_assert_eq!(whole.to::<Original>(&sizes).to_array(), size(sizes.original));
        prop_assert_eq!(whole.to::<Shown>(&sizes).to_array(), size(sizes.shown));
        prop_assert_eq!(whole.to::<Relative1000>(&sizes).to_array(), [0.0, 0.0, 1000.0, 1000.0]);
    }

    #[test]
    fn clamping_stays_on_the_image_and_changes_no_box_on_it(corners in any_box(), sizes in any_sizes()) {
        let bbox = BBox::<Original>::from(corners);
        let (w, h) = Original::extent(&sizes);
        let clamped = bbox.clamp(&sizes);
        prop_assert!(clamped.to_array().iter().zip([w, h, w, h]).all(|(v, end)| (0.0..=end).contains(v)));
        prop_assert_eq!(clamped.clamp(&sizes), clamped);
        let image = BBox::new(0.0, 0.0, w, h);
        if bbox.width() > 0.0 && bbox.height() > 0.0 {
            prop_assert_eq!(image.contains(bbox), clamped == bbox);
            prop_assert_eq!(clamped.area(), image.intersect(bbox).area());
        }
    }

    #[test]
    fn iou_is_symmetric_and_from_0_to_1(a in any_box(), b in any_box()) {
        let (a, b) = (BBox::<Shown>::from(a), BBox::<Shown>::from(b));
        prop_assert_eq!(a.iou(b), b.iou(a));
        prop_assert!((0.0..=1.0).contains(&a.iou(b)));
        prop_assert_eq!(a.iou(a), f64::from(u8::from(a.area() > 0.0 && a.width() > 0.0)));
    }

    #[test]
    fn iou_of_any_numbers_is_a_number(a in prop::array::uniform4(prop::num::f64::ANY), b in any_box()) {
        let (a, b) = (BBox::<Shown>::from(a), BBox::<Shown>::from(b));
        prop_assert!((0.0..=1.0).contains(&a.iou(b)));
    }

    #[test]
    fn iou_does_not_depend_on_the_frame(a in any_box(), b in any_box(), sizes in any_sizes()) {
        let (a, b) = (BBox::<Shown>::from(a), BBox::<Shown>::from(b));
        prop_assert!((a.iou(b) - a.to::<Unit>(&sizes).iou(b.to(&sizes))).abs() < 1e-9);
    }

    #[test]
    fn boxes_are_written_as_four_numbers(corners in any_box()) {
        let bbox = BBox::<Original>::from(corners);
        let json = serde_json::to_string(&bbox).unwrap();
        prop_assert!(json.starts_with('[') && json.matches(',').count() == 3);
        // serde_json reads some floats one unit in the last place off, unless its feature `float_roundtrip` is on.
        prop_assert!(close(serde_json::from_str::<BBox<Original>>(&json).unwrap(), bbox));
    }

    /// Crops of crops, each resized as it likes: the region in the first image is the product of the fractions.
    #[test]
    fn crops_of_crops_map_to_the_first_image(
        crops in prop::collection::vec((0.0f64..0.9, 0.0f64..0.9, 0.1f64..1.0, 0.1f64..1.0, 1u32..60, 1u32..60), 0..6),
    ) {
        let mut shelf = ImageShelf::new();
        shelf.push(Arc::new(RgbImage::new(9, 9)), Size::new(28, 28), None);
        let mut at = shelf.push(Arc::new(RgbImage::new(80, 40)), Size::new(56, 28), None);
        let mut expected = BBox::<Original>::new(0.0, 0.0, 80.0, 40.0);
        for (x, y, w, h, width, height) in crops {
            let (w, h) = (w.min(1.0 - x), h.min(1.0 - y));
            let sizes = shelf.get(at).unwrap().sizes;
            let bbox = BBox::<Unit>::new(x, y, x + w, y + h).to::<Original>(&sizes);
            expected = BBox::new(
                expected.x1 + x * expected.width(),
                expected.y1 + y * expected.height(),
                expected.x1 + (x + w) * expected.width(),
                expected.y1 + (y + h) * expected.height(),
            );
            let pixels = Arc::new(RgbImage::new(width, height));
            at = shelf.push(pixels, Size::new(28, 28), Some(CropOrigin::new(at, bbox)));
        }
        let (root, region) = shelf.root_region(at).unwrap();
        prop_assert_eq!(root, 2);
        prop_assert!(close(region, expected), "{:?} {:?}", region, expected);
    }
}

#[test]
fn the_shelf_counts_from_1() {
    let mut shelf = ImageShelf::new();
    assert!(shelf.is_empty() && shelf.get(0).is_none() && shelf.get(1).is_none());
    assert_eq!(shelf.push(Arc::new(RgbImage::new(40, 20)), Size::new(56, 28), None), 1);
    let sizes = shelf.get(1).unwrap().sizes;
    assert_eq!((sizes.original, sizes.shown), (Size::new(40, 20), Size::new(56, 28)));
    assert!(shelf.get(0).is_none() && shelf.get(2).is_none() && shelf.get(usize::MAX).is_none());
    let whole = shelf.to_original(1, BBox::new(0.0, 0.0, 56.0, 28.0)).unwrap();
    assert_eq!(whole.to_array(), [0.0, 0.0, 40.0, 20.0]);
    assert_eq!(shelf.root_region(1), Some((1, whole)));
    assert_eq!((shelf.root_region(0), shelf.root_region(2)), (None, None));
}

#[test]
fn an_origin_that_names_no_earlier_image_has_no_root() {
    let bbox = BBox::new(0.0, 0.0, 1.0, 1.0);
    for source in [0, 1, 2, 9] {
        let mut shelf = ImageShelf::new();
        shelf.push(Arc::new(RgbImage::new(4, 4)), Size::new(28, 28), Some(CropOrigin::new(source, bbox)));
        shelf.push(Arc::new(RgbImage::new(4, 4)), Size::new(28, 28), Some(CropOrigin::new(1, bbox)));
        assert_eq!((shelf.root_region(1), shelf.root_region(2)), (None, None), "{source}");
    }
}
