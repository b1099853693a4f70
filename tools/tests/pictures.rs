//! The tools that change pictures: pixels against Pillow's and by hand, where regions lie on their sources, and bounds.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::Path;
use std::sync::Arc;

use image::{Rgb, RgbImage};
use imagent_core::{Arguments, ImageShelf, Observation, Orientation, Size, Tool, ToolError};
use imagent_tools::{BoxFrame, Compare, Contrast, Flip, Mark, Rotate, ZoomIn};
use proptest::prelude::*;
use serde_json::{Value, json};

/// The picture of `source` in tools/tests/pillow/make_pictures.py.
fn source(width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| {
        Rgb([x * 5 + y, x * x + 3 * y, x * 31 + y * y * 7].map(|value| (value % 256) as u8))
    })
}

/// One image, shown at `shown`.
fn shelf(pixels: RgbImage, shown: Size) -> ImageShelf {
    let mut shelf = ImageShelf::new();
    shelf.push(Arc::new(pixels), shown, None);
    shelf
}

fn plain() -> ImageShelf {
    shelf(source(60, 37), Size::new(60, 37))
}

fn arguments(value: Value) -> Arguments {
    value.as_object().unwrap().clone()
}

fn call(tool: &dyn Tool, value: Value, shelf: &ImageShelf) -> Result<Observation, ToolError> {
    tool.call(&arguments(value), shelf)
}

fn seen(tool: &dyn Tool, value: Value, shelf: &ImageShelf) -> RgbImage {
    call(tool, value, shelf).unwrap().images[0].pixels.as_ref().clone()
}

fn golden(name: &str) -> RgbImage {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/pillow").join(format!("{name}.png"));
    image::open(path).unwrap().into_rgb8()
}

/// The largest difference of a channel; the sizes have to agree.
fn off(a: &RgbImage, b: &RgbImage) -> u8 {
    assert_eq!(a.dimensions(), b.dimensions());
    a.as_raw().iter().zip(b.as_raw()).map(|(a, b)| a.abs_diff(*b)).max().unwrap()
}

#[test]
fn turned_as_pillow_turns() {
    for (angle, name) in [(90.0, "90"), (180.0, "180"), (270.0, "270"), (-90.0, "270"), (450.0, "90")] {
        let turned = seen(&Rotate {}, json!({"image": 1, "angle": angle}), &plain());
        assert_eq!(turned, golden(&format!("rotate_{name}")), "{angle}");
    }
    // Pillow cuts what is interpolated to whole levels, here it is rounded.
    for (angle, name) in [(30.0, "30"), (-75.5, "-75.5"), (284.5, "-75.5"), (179.0, "179")] {
        let turned = seen(&Rotate {}, json!({"image": 1, "angle": angle}), &plain());
        assert!(off(&turned, &golden(&format!("rotate_{name}"))) <= 1, "{angle}");
    }
    assert_eq!(seen(&Rotate {}, json!({"image": 1, "angle": 720}), &plain()), source(60, 37));
}

#[test]
fn mirrored_as_pillow_mirrors() {
    for direction in ["horizontal", "vertical"] {
        let flipped = seen(&Flip {}, json!({"image": 1, "direction": direction}), &plain());
        assert_eq!(flipped, golden(&format!("flip_{direction}")));
    }
}

#[test]
fn contrast_as_pillow_has_it() {
    for factor in ["0.1", "0.5", "1", "1.7", "10"] {
        let changed = seen(&Contrast {}, json!({"image": 1, "factor": factor.parse::<f64>().unwrap()}), &plain());
        assert_eq!(changed, golden(&format!("contrast_{factor}")), "{factor}");
    }
    assert_eq!(golden("contrast_1"), source(60, 37));
}

#[test]
fn a_box_is_drawn_around_its_region() {
    let call = json!({"image": 1, "bbox_2d": [20, 10, 30, 18], "color": "yellow"});
    assert_eq!(seen(&Mark::default(), call, &plain()), golden("mark"));
    // At the image's edge the line moves inwards, and stays whole.
    let all = seen(&Mark { width: 1, ..Mark::default() }, json!({"image": 1, "bbox_2d": [0, 0, 60, 37]}), &plain());
    for (x, y, pixel) in all.enumerate_pixels() {
        let edge = x == 0 || y == 0 || x == 59 || y == 36;
        assert_eq!(*pixel, if edge { Rgb([255, 0, 0]) } else { *source(60, 37).get_pixel(x, y) }, "{x} {y}");
    }
    // Two shown pixels are four of the image's own across and eight down.
    let large = shelf(RgbImage::new(100, 200), Size::new(50, 50));
    let marked = seen(&Mark::default(), json!({"image": 1, "bbox_2d": [20, 20, 30, 30]}), &large);
    let red = |x: u32, y: u32| marked.get_pixel(x, y).0 == [255, 0, 0];
    assert!(red(36, 100) && red(39, 100) && !red(35, 100) && !red(40, 100));
    assert!(red(50, 72) && red(50, 79) && !red(50, 71) && !red(50, 80));
}

#[test]
fn two_regions_stand_side_by_side() {
    let mut two = plain();
    two.push(Arc::new(RgbImage::from_pixel(90, 90, Rgb([9, 9, 9]))), Size::new(90, 90), None);
    let call = json!({"image": 1, "bbox_2d": [10, 2, 40, 34], "other_image": 2, "other_bbox_2d": [0, 0, 16, 16]});
    let joined = seen(&Compare::default(), call, &two);
    assert_eq!(joined.dimensions(), (30 + 8 + 32, 32));
    for (x, y, pixel) in joined.enumerate_pixels() {
        let expected = match x {
            0..30 => *source(60, 37).get_pixel(x + 10, y + 2),
            30..38 => Rgb([128; 3]),
            _ => Rgb([9, 9, 9]),
        };
        assert_eq!(*pixel, expected, "{x} {y}");
    }
}

#[test]
fn what_shows_no_region_of_one_image_has_no_origin() {
    let mut shelf = plain();
    let compare = json!({"image": 1, "bbox_2d": [10, 2, 40, 34], "other_image": 1, "other_bbox_2d": [0, 0, 16, 16]});
    let made = [call(&Rotate {}, json!({"image": 1, "angle": 30}), &shelf), call(&Compare::default(), compare, &shelf)];
    for made in made {
        let made = made.unwrap().images.remove(0);
        assert!(made.origin.is_none());
        let index = shelf.observe(made.pixels, Size::new(56, 56), None);
        let cut = call(&ZoomIn::default(), json!({"image": index, "bbox_2d": [9, 9, 30, 30]}), &shelf).unwrap();
        let origin = cut.images[0].origin;
        assert_eq!(origin.unwrap().image, index);
        let crop = shelf.observe(Arc::clone(&cut.images[0].pixels), Size::new(28, 28), origin);
        assert_eq!((shelf.root_region(index), shelf.root_region(crop)), (None, None));
    }
}

#[test]
fn every_error_has_its_name() {
    let pairs = |tool: &dyn Tool, cases: Vec<(Value, ToolError)>| {
        for (value, error) in cases {
            assert_eq!(call(tool, value.clone(), &plain()).unwrap_err(), error, "{value}");
        }
    };
    let wrong = |argument, expected| ToolError::WrongArgument { argument, expected };
    let range = ToolError::OutOfRange { argument: "factor", low: 0.1, high: 10.0 };
    assert_eq!(range.to_string(), "factor must be a number from 0.1 to 10");
    pairs(
        &Rotate {},
        vec![
            (json!({"angle": 1}), ToolError::MissingArgument("image")),
            (json!({"image": 1}), ToolError::MissingArgument("angle")),
            (json!({"image": 1, "angle": "90"}), wrong("angle", "a number")),
            (json!({"image": 1, "angle": null}), wrong("angle", "a number")),
            (json!({"image": 2, "angle": 90}), ToolError::NoImage { index: 2, count: 1 }),
            (json!({"image": 1, "angle": 90, "expand": true}), ToolError::UnknownArgument("expand".into())),
        ],
    );
    pairs(
        &Flip {},
        vec![
            (json!({"image": 1}), ToolError::MissingArgument("direction")),
            (json!({"image": 1, "direction": "left"}), wrong("direction", "`horizontal` or `vertical`")),
            (json!({"image": 1, "direction": 1}), wrong("direction", "`horizontal` or `vertical`")),
        ],
    );
    pairs(
        &Contrast {},
        vec![
            (json!({"image": 1}), ToolError::MissingArgument("factor")),
            (json!({"image": 1, "factor": []}), wrong("factor", "a number")),
            (json!({"image": 1, "factor": 0}), range.clone()),
            (json!({"image": 1, "factor": -1}), range.clone()),
            (json!({"image": 1, "factor": 10.5}), range),
        ],
    );
    let expected = "one of red, green, blue, yellow, cyan, magenta, black, white";
    pairs(
        &Mark { min_side: 4, ..Mark::default() },
        vec![
            (json!({"image": 1}), ToolError::MissingArgument("bbox_2d")),
            (json!({"image": 1, "bbox_2d": [0, 0, 9, 9], "color": "pink"}), wrong("color", expected)),
            (json!({"image": 1, "bbox_2d": [0, 0, 9, 9], "color": null}), wrong("color", expected)),
            (json!({"image": 1, "bbox_2d": [9, 0, 0, 9]}), ToolError::EmptyBox),
            (json!({"image": 1, "bbox_2d": [60, 0, 70, 9]}), ToolError::OutsideBox(1)),
            (json!({"image": 1, "bbox_2d": [0, 0, 3, 9]}), ToolError::TinyBox { min: 4 }),
        ],
    );
    let with = |key: &str, value: Value| {
        let mut call = json!({"image": 1, "bbox_2d": [0, 0, 9, 9], "other_image": 1, "other_bbox_2d": [0, 0, 9, 9]});
        call[key] = value;
        call
    };
    let other = |error| ToolError::OtherBox(Box::new(error));
    pairs(
        &Compare::default(),
        vec![
            (json!({"image": 1, "bbox_2d": [0, 0, 9, 9]}), ToolError::MissingArgument("other_image")),
            (with("bbox_2d", json!([5, 5, 5, 9])), ToolError::EmptyBox),
            (with("other_bbox_2d", json!([5, 5, 5, 9])), other(ToolError::EmptyBox)),
            (with("other_bbox_2d", json!([0, 0, 3, 9])), other(ToolError::TinyBox { min: 4 })),
            (with("other_bbox_2d", json!([70, 0, 80, 9])), other(ToolError::OutsideBox(1))),
            (with("other_bbox_2d", json!(1)), wrong("other_bbox_2d", "four numbers [x1, y1, x2, y2]")),
            (with("other_image", json!(1.5)), wrong("other_image", "an integer")),
            (with("other_image", json!(7)), ToolError::NoImage { index: 7, count: 1 }),
        ],
    );
    assert_eq!(other(ToolError::EmptyBox).to_string(), "other_bbox_2d must have x1 < x2 and y1 < y2");
    assert_eq!(other(ToolError::EmptyBox).name(), "empty_box");
}

fn tools() -> [Box<dyn Tool>; 5] {
    let boxed: [Box<dyn Tool>; 5] = [
        Box::new(Compare::default()),
        Box::new(Contrast {}),
        Box::new(Flip {}),
        Box::new(Mark::default()),
        Box::new(Rotate {}),
    ];
    boxed
}

/// Any JSON value, biased to what comes close to a call.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        (-5i64..60).prop_map(Value::from),
        (1i64..3).prop_map(Value::from),
        Just(Value::from("horizontal")),
        Just(Value::from("red")),
        ".{0,8}".prop_map(Value::from),
        prop::array::uniform4(-20.0f64..70.0).prop_map(|corners| json!(corners)),
    ];
    leaf.prop_recursive(2, 12, 5, |inner| prop::collection::vec(inner, 0..5).prop_map(Value::from))
}

fn any_arguments() -> impl Strategy<Value = Arguments> {
    let keys = vec!["image", "bbox_2d", "other_image", "other_bbox_2d", "angle", "direction", "factor", "color", "x"];
    let key = prop::sample::select(keys).prop_map(str::to_owned);
    prop::collection::vec((key, any_json()), 0..6).prop_map(|entries| entries.into_iter().collect())
}

fn any_orientation() -> impl Strategy<Value = (Value, Orientation)> {
    prop::sample::select(vec![
        (json!({"image": 1, "angle": 0}), Orientation::Upright),
        (json!({"image": 1, "angle": 90}), Orientation::QuarterLeft),
        (json!({"image": 1, "angle": -180}), Orientation::Half),
        (json!({"image": 1, "angle": -90}), Orientation::QuarterRight),
        (json!({"image": 1, "direction": "horizontal"}), Orientation::MirroredX),
        (json!({"image": 1, "direction": "vertical"}), Orientation::MirroredY),
    ])
}

/// An image in which every pixel is another.
fn places(width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| Rgb([x as u8, y as u8, 0]))
}

proptest! {
    #[test]
    fn no_arguments_panic(arguments in any_arguments()) {
        let mut shelf = plain();
        shelf.push(Arc::new(RgbImage::new(0, 0)), Size::new(0, 0), None);
        for tool in tools() {
            let _ = tool.call(&arguments, &shelf);
            let _ = tool.call(&arguments, &ImageShelf::new());
        }
    }

    /// Pictures that the model's processor takes, whatever the image and the call.
    #[test]
    fn what_comes_back_can_be_shown(
        (width, height) in (1u32..400, 1u32..400),
        angle in -400.0f64..400.0,
        corners in prop::array::uniform4(0.0f64..1.0),
        others in prop::array::uniform4(0.0f64..1.0),
        (gap, max_aspect, min_side) in (0u32..29, 1u32..100, 0u32..3),
    ) {
        prop_assume!(width.max(height) <= 200 * width.min(height));
        let shelf = shelf(source(width, height), Size::new(width.div_ceil(28) * 28, height.div_ceil(28) * 28));
        let bbox = |[a, b, c, d]: [f64; 4]| [a.min(c), b.min(d), a.max(c), b.max(d)];
        let (first, second) = (bbox(corners), bbox(others));
        let frame = BoxFrame::Unit;
        let compare = Compare { frame, min_side, max_aspect, gap };
        let seen = [
            call(&Rotate {}, json!({"image": 1, "angle": angle}), &shelf),
            call(&Mark { frame, ..Mark::default() }, json!({"image": 1, "bbox_2d": first}), &shelf),
            call(&compare, json!({"image": 1, "bbox_2d": first, "other_image": 1, "other_bbox_2d": second}), &shelf),
        ];
        prop_assert!(seen[0].is_ok());
        for image in seen.into_iter().flatten().flat_map(|observation| observation.images) {
            let (w, h) = image.pixels.dimensions();
            prop_assert!(w >= 1 && h >= 1 && w.max(h) <= 200 * w.min(h), "{}x{}", w, h);
            prop_assert!(f64::from(w) * f64::from(h) <= 12_845_056.0, "{}x{}", w, h);
        }
    }

    /// A region of a turned or mirrored picture is the source's region with the same pixels, in the same order.
    #[test]
    fn regions_of_turned_pictures_are_found_again(
        (width, height) in (8u32..120, 8u32..120),
        // A box is a pixel wide at least, which is the least that the tool takes here.
        (x, y, w, h) in (0.0f64..0.7, 0.0f64..0.7, 0.13f64..0.3, 0.13f64..0.3),
        (how, orientation) in any_orientation(),
        again in any_orientation(),
    ) {
        let alone = shelf(places(width, height), Size::new(width, height));
        let mut shelf = alone.clone();
        let tool = |how: &Value| -> Box<dyn Tool> {
            if how.get("angle").is_some() { Box::new(Rotate {}) } else { Box::new(Flip {}) }
        };
        let mut put = |seen: Observation| {
            let image = &seen.images[0];
            shelf.observe(Arc::clone(&image.pixels), Size::new(image.pixels.width(), image.pixels.height()), image.origin);
            shelf.clone()
        };
        let first = call(tool(&how).as_ref(), how.clone(), &alone).unwrap();
        prop_assert_eq!(first.images[0].origin.unwrap().orientation, orientation);
        let shelf = put(first);
        // Turned twice, then cut: image 3 of image 2 of image 1.
        let mut more = again.0.clone();
        more["image"] = json!(2);
        let shelf = put(call(tool(&more).as_ref(), more, &shelf).unwrap());
        let cut = ZoomIn { frame: BoxFrame::Unit, min_side: 1, ..ZoomIn::default() };
        let shelf = put(call(&cut, json!({"image": 3, "bbox_2d": [x, y, x + w, y + h]}), &shelf).unwrap());
        let (root, region) = shelf.root_region(4).unwrap();
        prop_assert_eq!(root, 1);
        let [x1, y1, x2, y2] = region.to_array().map(|edge| edge.round());
        for (rounded, edge) in [x1, y1, x2, y2].iter().zip(region.to_array()) {
            prop_assert!((rounded - edge).abs() < 1e-9);
        }
        let crop = &shelf.get(4).unwrap().pixels;
        prop_assert_eq!((x2 - x1) * (y2 - y1), f64::from(crop.width() * crop.height()));
        for pixel in crop.pixels() {
            let [column, row, _] = pixel.0.map(f64::from);
            prop_assert!((x1..x2).contains(&column) && (y1..y2).contains(&row), "{:?} {:?}", pixel, region);
        }
    }
}

#[test]
fn a_large_image_turned_stays_within_what_the_model_is_shown() {
    for (width, height) in [(6000, 60), (4000, 3900)] {
        let shelf = shelf(RgbImage::from_pixel(width, height, Rgb([200; 3])), Size::new(width, height));
        let turned = seen(&Rotate {}, json!({"image": 1, "angle": 45}), &shelf);
        let pixels = f64::from(turned.width()) * f64::from(turned.height());
        assert!(pixels <= 12_845_056.0 && pixels > 12_500_000.0, "{:?}", turned.dimensions());
    }
}
