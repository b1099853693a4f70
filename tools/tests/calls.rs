//! What the tools return for good calls and for bad ones.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::Arc;

use image::{Rgb, RgbImage};
use imagent_core::{Arguments, BBox, ImageShelf, Observation, Size, Tool, ToolError, Toolbox};
use imagent_tools::{BoxFrame, LookBack, Withheld, ZoomIn};
use proptest::prelude::*;
use serde_json::{Value, json};

/// An image in which every pixel tells its place.
fn ramp(width: u32, height: u32) -> Arc<RgbImage> {
    Arc::new(RgbImage::from_fn(width, height, |x, y| {
        Rgb([(x % 251) as u8, (y % 241) as u8, (x / 251 * 16 + y / 241) as u8])
    }))
}

fn shelf(images: &[(Size, Size)]) -> ImageShelf {
    let mut shelf = ImageShelf::new();
    for (original, shown) in images {
        shelf.push(ramp(original.width, original.height), *shown, None);
    }
    shelf
}

/// Image 1 is shown at a quarter of its size, image 2 at its own.
fn two() -> ImageShelf {
    shelf(&[(Size::new(448, 448), Size::new(112, 112)), (Size::new(56, 84), Size::new(56, 84))])
}

fn arguments(value: Value) -> Arguments {
    value.as_object().unwrap().clone()
}

fn zoom(tool: ZoomIn, value: Value, shelf: &ImageShelf) -> Result<Observation, ToolError> {
    Tool::call(&tool, &arguments(value), shelf)
}

fn refused(value: Value) -> ToolError {
    zoom(ZoomIn::default(), value, &two()).unwrap_err()
}

/// The box that was cut.
fn cut(observation: &Observation) -> [f64; 4] {
    observation.images[0].origin.unwrap().bbox.to_array()
}

#[test]
fn every_error_has_its_name() {
    let wrong_image = ToolError::WrongArgument { argument: "image", expected: "an integer" };
    let wrong_box = ToolError::WrongArgument { argument: "bbox_2d", expected: "four numbers [x1, y1, x2, y2]" };
    let cases = [
        (json!({"bbox_2d": [0, 0, 9, 9]}), ToolError::MissingArgument("image")),
        (json!({"image": 1}), ToolError::MissingArgument("bbox_2d")),
        (json!({"image": 1, "bbox_2d": [0, 0, 9, 9], "label": "cat"}), ToolError::UnknownArgument("label".into())),
        (json!({"image": "1", "bbox_2d": [0, 0, 9, 9]}), wrong_image.clone()),
        (json!({"image": 1.5, "bbox_2d": [0, 0, 9, 9]}), wrong_image),
        (json!({"image": 0, "bbox_2d": [0, 0, 9, 9]}), ToolError::NoImage { index: 0, count: 2 }),
        (json!({"image": 3, "bbox_2d": [0, 0, 9, 9]}), ToolError::NoImage { index: 3, count: 2 }),
        (json!({"image": -1, "bbox_2d": [0, 0, 9, 9]}), ToolError::NoImage { index: -1, count: 2 }),
        (json!({"image": 1e300, "bbox_2d": [0, 0, 9, 9]}), ToolError::NoImage { index: i64::MAX, count: 2 }),
        (json!({"image": u64::MAX, "bbox_2d": [0, 0, 9, 9]}), ToolError::NoImage { index: i64::MAX, count: 2 }),
        (json!({"image": 1, "bbox_2d": [0, 0, 9]}), wrong_box.clone()),
        (json!({"image": 1, "bbox_2d": [0, 0, 9, "9"]}), wrong_box.clone()),
        (json!({"image": 1, "bbox_2d": [0, 0, 9, f64::NAN]}), wrong_box.clone()),
        (json!({"image": 1, "bbox_2d": {"x1": 0}}), wrong_box),
        (json!({"image": 1, "bbox_2d": [9, 0, 0, 9]}), ToolError::EmptyBox),
        (json!({"image": 1, "bbox_2d": [0, 5, 9, 5]}), ToolError::EmptyBox),
        (json!({"image": 1, "bbox_2d": [112, 0, 130, 9]}), ToolError::OutsideBox(1)),
        (json!({"image": 2, "bbox_2d": [-20, 0, -10, 9]}), ToolError::OutsideBox(2)),
        (json!({"image": 1, "bbox_2d": [0, 0, 3.9, 9]}), ToolError::TinyBox { min: 4 }),
        (json!({"image": 1, "bbox_2d": [109, 0, 200, 9]}), ToolError::TinyBox { min: 4 }),
    ];
    for (value, error) in cases {
        assert_eq!(refused(value.clone()), error, "{value}");
    }
}

#[test]
fn a_long_thin_box_is_refused_up_to_what_the_processor_takes() {
    let strip = shelf(&[(Size::new(1000, 40), Size::new(1008, 28))]);
    let call = |max_aspect, x2| {
        let tool = ZoomIn { max_aspect, min_side: 1, ..ZoomIn::default() };
        zoom(ZoomIn { frame: BoxFrame::Original, ..tool }, json!({"image": 1, "bbox_2d": [0, 0, x2, 2]}), &strip)
    };
    assert!(call(100, 200).is_ok());
    assert_eq!(call(100, 201).unwrap_err(), ToolError::ThinBox { max: 100 });
    assert!(call(200, 400).is_ok());
    assert!(call(1, 2).is_ok());
    assert_eq!(call(1, 3).unwrap_err(), ToolError::ThinBox { max: 1 });
}

#[test]
fn integral_floats_are_integers() {
    let seen = zoom(ZoomIn::default(), json!({"image": 2.0, "bbox_2d": [0.0, 0, 9, 9]}), &two()).unwrap();
    assert_eq!(seen.images[0].origin.unwrap().image, 2);
}

#[test]
fn the_same_region_in_every_frame() {
    let half = [
        (BoxFrame::Shown, json!([0, 0, 56, 28])),
        (BoxFrame::Original, json!([0, 0, 224, 112])),
        (BoxFrame::Relative1000, json!([0, 0, 500, 250])),
        (BoxFrame::Unit, json!([0, 0, 0.5, 0.25])),
    ];
    for (frame, bbox) in half {
        let tool = ZoomIn { frame, ..ZoomIn::default() };
        let seen = zoom(tool, json!({"image": 1, "bbox_2d": bbox}), &two()).unwrap();
        assert_eq!(cut(&seen), [0.0, 0.0, 224.0, 112.0], "{frame:?}");
    }
}

#[test]
fn boxes_are_clamped_and_rounded_outwards() {
    let call = |bbox| cut(&zoom(ZoomIn::default(), json!({"image": 1, "bbox_2d": bbox}), &two()).unwrap());
    assert_eq!(call(json!([-1e308, -5, 1e308, 6])), [0.0, 0.0, 448.0, 24.0]);
    assert_eq!(call(json!([10.1, 10.1, 20.1, 20.1])), [40.0, 40.0, 81.0, 81.0]);
}

#[test]
fn a_shown_size_that_does_not_divide_covers_the_image_exactly() {
    let odd = shelf(&[(Size::new(100, 37), Size::new(112, 28))]);
    let seen = zoom(ZoomIn::default(), json!({"image": 1, "bbox_2d": [0, 0, 112, 28]}), &odd).unwrap();
    assert_eq!(cut(&seen), [0.0, 0.0, 100.0, 37.0]);
    assert_eq!(seen.images[0].pixels, odd.get(1).unwrap().pixels);
}

#[test]
fn a_small_crop_is_enlarged_and_keeps_its_origin() {
    let tool = ZoomIn { min_output: 112, ..ZoomIn::default() };
    let seen = zoom(tool, json!({"image": 1, "bbox_2d": [10, 10, 20, 30]}), &two()).unwrap();
    assert_eq!(seen.images[0].pixels.dimensions(), (112, 224));
    assert_eq!(cut(&seen), [40.0, 40.0, 80.0, 120.0]);
    let corner = seen.images[0].pixels.get_pixel(0, 0);
    assert!(corner[0].abs_diff(40) <= 1 && corner[1].abs_diff(40) <= 1, "{corner:?}");
    let large = zoom(tool, json!({"image": 1, "bbox_2d": [0, 0, 112, 112]}), &two()).unwrap();
    assert_eq!(large.images[0].pixels.dimensions(), (448, 448));
}

#[test]
fn enlarging_stops_at_the_largest_image_of_the_model() {
    let strip = shelf(&[(Size::new(400, 4), Size::new(400, 28))]);
    let tool = ZoomIn { min_output: 2048, ..ZoomIn::default() };
    let seen = zoom(tool, json!({"image": 1, "bbox_2d": [0, 0, 400, 28]}), &strip).unwrap();
    let (width, height) = seen.images[0].pixels.dimensions();
    assert!(u64::from(width) * u64::from(height) < 12_900_000, "{width}x{height}");
}

#[test]
fn looking_back_shares_the_pixels() {
    let shelf = two();
    let seen = Tool::call(&LookBack::default(), &arguments(json!({"image": 2})), &shelf).unwrap();
    assert!(Arc::ptr_eq(&seen.images[0].pixels, &shelf.get(2).unwrap().pixels));
    assert_eq!(cut(&seen), [0.0, 0.0, 56.0, 84.0]);
    let refused = |value| Tool::call(&LookBack::default(), &arguments(value), &shelf).unwrap_err();
    assert_eq!(refused(json!({})), ToolError::MissingArgument("image"));
    assert_eq!(refused(json!({"image": 9})), ToolError::NoImage { index: 9, count: 2 });
    assert_eq!(refused(json!({"image": 1, "bbox_2d": []})), ToolError::UnknownArgument("bbox_2d".into()));
}

#[test]
fn static_and_dynamic_boxes_of_tools_agree() {
    let still = (ZoomIn::default(), LookBack::default());
    let boxed: Vec<Box<dyn Tool>> =
        serde_json::from_value(json!([{"type": "zoom_in"}, {"type": "look_back"}])).unwrap();
    assert_eq!(still.specs(), boxed.specs());
    let call = arguments(json!({"image": 1, "bbox_2d": [1, 2, 30, 40]}));
    for name in ["zoom_in", "look_back", "rotate"] {
        let answers = [still.call(name, &call, &two()), boxed.call(name, &call, &two())];
        assert_eq!(format!("{:?}", answers[0]), format!("{:?}", answers[1]));
    }
}

/// Any JSON value, biased to what comes close to a call.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        (-10i64..130).prop_map(Value::from),
        ".{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 16, 5, |inner| prop::collection::vec(inner, 0..5).prop_map(Value::from))
}

fn any_arguments() -> impl Strategy<Value = Arguments> {
    let key = prop_oneof![Just("image".to_owned()), Just("bbox_2d".to_owned()), ".{0,4}"];
    prop::collection::vec((key, any_json()), 0..4).prop_map(|entries| entries.into_iter().collect())
}

fn any_frame() -> impl Strategy<Value = BoxFrame> {
    prop_oneof![Just(BoxFrame::Shown), Just(BoxFrame::Original), Just(BoxFrame::Relative1000), Just(BoxFrame::Unit)]
}

proptest! {
    #[test]
    fn no_arguments_panic(arguments in any_arguments()) {
        let _ = Tool::call(&ZoomIn::default(), &arguments, &two());
        let _ = Tool::call(&LookBack::default(), &arguments, &two());
        let _ = Tool::call(&ZoomIn::default(), &arguments, &ImageShelf::new());
    }

    #[test]
    fn no_box_panics(
        corners in prop::array::uniform4(any::<f64>()),
        frame in any_frame(),
        min_side in 0u32..50,
        image in 1usize..4,
    ) {
        let shelf = shelf(&[
            (Size::new(50, 30), Size::new(56, 28)),
            (Size::new(1, 1), Size::new(28, 28)),
            (Size::new(0, 0), Size::new(0, 0)),
        ]);
        let tool = ZoomIn { frame, min_side, ..ZoomIn::default() };
        let _ = zoom(tool, json!({"image": image, "bbox_2d": corners}), &shelf);
    }

    #[test]
    fn a_crop_is_the_region_that_its_origin_names(
        (width, height) in (1u32..300, 1u32..300),
        (columns, rows) in (1u32..8, 1u32..8),
        corners in prop::array::uniform4(-20.0f64..250.0),
    ) {
        let shown = Size::new(columns * 28, rows * 28);
        let shelf = shelf(&[(Size::new(width, height), shown)]);
        let tool = ZoomIn { max_aspect: 200, ..ZoomIn::default() };
        let Ok(seen) = zoom(tool, json!({"image": 1, "bbox_2d": corners}), &shelf) else { return Ok(()) };
        let (pixels, origin) = (&seen.images[0].pixels, seen.images[0].origin.unwrap());
        let source = shelf.get(1).unwrap();
        // It covers what was asked for, and exceeds it by less than a pixel a side.
        let asked = BBox::<imagent_core::Shown>::from(corners).clamp(&source.sizes);
        let exact = asked.to::<imagent_core::Original>(&source.sizes);
        for (got, wanted, sign) in [
            (origin.bbox.x1, exact.x1, 1.0), (origin.bbox.y1, exact.y1, 1.0),
            (origin.bbox.x2, exact.x2, -1.0), (origin.bbox.y2, exact.y2, -1.0),
        ] {
            let excess = (wanted - got) * sign;
            prop_assert!((-1e-5..1.00001).contains(&excess), "{got} for {wanted}");
            prop_assert_eq!(got.fract(), 0.0);
        }
        // Its pixels are the source's.
        prop_assert_eq!(f64::from(pixels.width()), origin.bbox.width());
        prop_assert_eq!(f64::from(pixels.height()), origin.bbox.height());
        for (x, y, pixel) in pixels.enumerate_pixels() {
            prop_assert_eq!(pixel, source.pixels.get_pixel(x + origin.bbox.x1 as u32, y + origin.bbox.y1 as u32));
        }
    }

    #[test]
    fn crops_of_crops_map_back_to_the_first_image(
        first in (0.0f64..50.0, 0.0f64..50.0, 30.0f64..60.0, 30.0f64..60.0),
        second in (0.0f64..0.5, 0.0f64..0.5, 0.2f64..0.5, 0.2f64..0.5),
        min_output in prop_oneof![Just(0u32), 100u32..300],
    ) {
        let mut shelf = two();
        let (x, y, w, h) = first;
        let seen = zoom(ZoomIn::default(), json!({"image": 1, "bbox_2d": [x, y, x + w, y + h]}), &shelf).unwrap();
        let image = &seen.images[0];
        let size = Size::new(image.pixels.width().div_ceil(28) * 28, image.pixels.height().div_ceil(28) * 28);
        prop_assert_eq!(shelf.push(Arc::clone(&image.pixels), size, image.origin), 3);
        let (x, y, w, h) = second;
        let tool = ZoomIn { frame: BoxFrame::Unit, min_output, ..ZoomIn::default() };
        let seen = zoom(tool, json!({"image": 3, "bbox_2d": [x, y, x + w, y + h]}), &shelf).unwrap();
        let image = &seen.images[0];
        let index = shelf.push(Arc::clone(&image.pixels), Size::new(112, 112), image.origin);
        let (root, region) = shelf.root_region(index).unwrap();
        prop_assert_eq!(root, 1);
        if min_output == 0 {
            let source = &shelf.get(1).unwrap().pixels;
            let (left, top) = (region.x1.round() as u32, region.y1.round() as u32);
            prop_assert_eq!(image.pixels.get_pixel(0, 0), source.get_pixel(left, top));
            prop_assert!((region.width() - f64::from(image.pixels.width())).abs() < 1e-6);
        }
        let inner = image.origin.unwrap().bbox;
        let outer = shelf.get(3).unwrap().origin.unwrap().bbox;
        prop_assert!((region.x1 - outer.x1 - inner.x1).abs() < 1e-6 && (region.y2 - outer.y1 - inner.y2).abs() < 1e-6);
    }
}

#[test]
fn what_is_withheld_has_the_size_and_origin_of_the_result_and_none_of_its_pixels() {
    let calls = [
        (Box::new(ZoomIn::default()) as Box<dyn Tool>, json!({"image": 2, "bbox_2d": [3, 5, 40, 31]})),
        (Box::new(LookBack::default()), json!({"image": 1})),
    ];
    for (tool, call) in calls {
        let (name, shelf) = (tool.spec().name, two());
        let seen = Tool::call(tool.as_ref(), &arguments(call.clone()), &shelf).unwrap();
        let control = Withheld { tool };
        assert_eq!(control.spec().name, name);
        let withheld = Tool::call(&control, &arguments(call), &shelf).unwrap();
        assert_eq!(withheld.images.len(), 1);
        let (seen, withheld) = (&seen.images[0], &withheld.images[0]);
        assert_eq!((withheld.pixels.dimensions(), withheld.origin), (seen.pixels.dimensions(), seen.origin));
        assert!(withheld.pixels.pixels().all(|pixel| pixel.0 == [128; 3]), "{name} shows something");
        assert_eq!(shelf.get(1).unwrap().pixels.get_pixel(9, 9).0, [9, 9, 0], "the shelf is left as it is");
    }
    let nowhere = arguments(json!({"image": 7, "bbox_2d": [0, 0, 9, 9]}));
    let error = Tool::call(&Withheld::default(), &nowhere, &two()).unwrap_err();
    assert_eq!(error, ToolError::NoImage { index: 7, count: 2 });
}
