//! `imagent forward` and `imagent loss` through the program itself, against transformers and verl: the cases of
//! `tests/parity` (and `IMAGENT_PARITY=folder`) and of `algorithms/tests/rl`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "parity/fixture.rs"]
mod fixture;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use image::RgbImage;
use imagent::models::image_processor::ImageProcessor;
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use serde_json::{Value, json};

/// A tensor: shape and values.
type Tensor = (Vec<usize>, Vec<f64>);

struct Tensors(BTreeMap<String, Tensor>);

impl Tensors {
    fn open(path: &Path) -> Self {
        let bytes = std::fs::read(path).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let tensor = |(name, view): (String, TensorView<'_>)| (name, (view.shape().to_vec(), numbers(&view)));
        Self(file.tensors().into_iter().map(tensor).collect())
    }

    fn get(&self, name: &str) -> &Tensor {
        self.0.get(name).unwrap_or_else(|| panic!("no tensor {name}"))
    }
}

fn numbers(view: &TensorView<'_>) -> Vec<f64> {
    let data = view.data();
    match view.dtype() {
        Dtype::F32 => data.as_chunks::<4>().0.iter().map(|b| f64::from(f32::from_le_bytes(*b))).collect(),
        Dtype::I32 => data.as_chunks::<4>().0.iter().map(|b| f64::from(i32::from_le_bytes(*b))).collect(),
        Dtype::I64 => data.as_chunks::<8>().0.iter().map(|b| i64::from_le_bytes(*b) as f64).collect(),
        Dtype::U8 => data.iter().map(|&b| f64::from(b)).collect(),
        other => panic!("{other:?}"),
    }
}

fn save(path: &Path, tensors: &[(&str, &[usize], &[f64], Dtype)]) {
    let bytes = |values: &[f64], dtype: Dtype| -> Vec<u8> {
        match dtype {
            Dtype::I64 => values.iter().flat_map(|&x| (x as i64).to_le_bytes()).collect(),
            _ => values.iter().flat_map(|&x| (x as f32).to_le_bytes()).collect(),
        }
    };
    let data: Vec<Vec<u8>> = tensors.iter().map(|(_, _, values, dtype)| bytes(values, *dtype)).collect();
    let views = tensors
        .iter()
        .zip(&data)
        .map(|((name, shape, _, dtype), data)| (*name, TensorView::new(*dtype, shape.to_vec(), data).unwrap()));
    std::fs::write(path, safetensors::serialize(views, None).unwrap()).unwrap();
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_path_buf()
}

fn parity() -> PathBuf {
    root().join("tests/parity")
}

fn imagent(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_imagent")).args(args).output().unwrap()
}

/// Runs a command that must succeed.
fn succeed(args: &[&str]) -> String {
    let output = imagent(args);
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Runs a command that must refuse its input, with a short message and exit code 2.
fn refuse(args: &[&str]) -> String {
    let output = imagent(args);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{args:?}: {said}");
    assert!(said.starts_with("error: ") && said.lines().count() == 1 && said.len() < 400, "{said}");
    said
}

struct Forward {
    dir: PathBuf,
    golden: Tensors,
    manifest: Value,
    ours: Tensors,
}

/// A case's checkpoint, in a folder in `to`.
fn checkpoint(dir: &Path, to: &Path) -> PathBuf {
    let model = to.join("checkpoint");
    std::fs::create_dir(&model).unwrap();
    fixture::copy_checkpoint(&parity(), dir, &model);
    model
}

/// The golden's pixels for `--pixels`: as they are, or made from the bytes that they were made from.
fn pixels(golden: &Tensors, model: &Path, to: &Path) -> Option<PathBuf> {
    let (_, grids) = golden.0.get("image_grid_thw")?;
    let path = to.join("pixels.safetensors");
    let (shape, values) = match golden.0.get("pixel_values") {
        Some(given) => given.clone(),
        None => {
            golden.0.get("image.0.resized")?;
            let processor = ImageProcessor::open(model).unwrap();
            let resized = (0..).map_while(|i| golden.0.get(&format!("image.{i}.resized")));
            let picture = |(shape, bytes): &Tensor| {
                let bytes = bytes.iter().map(|&byte| byte as u8).collect();
                RgbImage::from_raw(shape[1] as u32, shape[0] as u32, bytes).unwrap()
            };
            let patches = |tensor: &Tensor| processor.patchify(&picture(tensor)).unwrap().values;
            let values: Vec<f64> = resized.flat_map(patches).map(f64::from).collect();
            (vec![values.len() / 1176, 1176], values)
        }
    };
    let grid_shape = [grids.len() / 3, 3];
    save(&path, &[("pixel_values", &shape, &values, Dtype::F32), ("image_grid_thw", &grid_shape, grids, Dtype::I64)]);
    Some(path)
}

fn forward(dir: &Path, given: bool, extra: &[&str]) -> Forward {
    let folder = tempfile::tempdir().unwrap();
    let model = checkpoint(dir, folder.path());
    let out = folder.path().join("out.safetensors");
    let messages = dir.join("messages.json");
    let golden = Tensors::open(&dir.join("golden.safetensors"));
    let pixels = pixels(&golden, &model, folder.path()).filter(|_| given);
    let pixels = pixels.as_ref().map(|path| path.to_str().unwrap());
    let mut extra = extra.to_vec();
    extra.extend(pixels.iter().flat_map(|path| ["--pixels", path]));
    let paths = [model.to_str().unwrap(), messages.to_str().unwrap(), out.to_str().unwrap()];
    let mut args = vec!["forward", "--model", paths[0], "--messages", paths[1], "--out", paths[2]];
    args.extend(&extra);
    let said = succeed(&args);
    assert!(said.contains("tokens") && said.contains("tensors written"), "{said}");
    let manifest = serde_json::from_slice(&std::fs::read(dir.join("manifest.json")).unwrap()).unwrap();
    Forward { dir: dir.to_path_buf(), golden, manifest, ours: Tensors::open(&out) }
}

fn distance(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

impl Forward {
    fn is_batch(&self) -> bool {
        self.golden.get("input_ids").0.len() == 2
    }

    /// The golden's real rows; ours are padded behind, the golden's may be padded in front.
    fn real(&self, tensors: &Tensors, name: &str) -> Vec<f64> {
        let (shape, values) = tensors.get(name);
        if !self.is_batch() {
            return values.clone();
        }
        let mask = &tensors.get("attention_mask").1;
        let pairs = name == "logprobs";
        let columns = mask.len() / shape[0];
        let width = if pairs { 1 } else { values.len() / mask.len() };
        let mut out = Vec::new();
        for row in 0..shape[0] {
            for t in 0..columns - usize::from(pairs) {
                let at = row * columns + t;
                if mask[at] == 1.0 && (!pairs || mask[at + 1] == 1.0) {
                    let start = (row * (columns - usize::from(pairs)) + t) * width;
                    out.extend_from_slice(&values[start..start + width]);
                }
            }
        }
        out
    }

    fn bound(&self) -> f64 {
        (4.0 * self.manifest["noise_max_abs_logit"].as_f64().unwrap_or(0.0)).max(2e-4)
    }

    fn name(&self) -> std::borrow::Cow<'_, str> {
        self.dir.file_name().unwrap().to_string_lossy()
    }
}

#[test]
fn forward_on_given_pixels_agrees_with_transformers() {
    for dir in fixture::cases(&parity()) {
        let golden = dir.join("golden.safetensors");
        let has = |name: &str| Tensors::open(&golden).0.contains_key(name);
        let mut extra = vec!["--attention"];
        if has("generated_ids") {
            extra.extend(["--generate", "16"]);
        }
        let run = forward(&dir, true, &extra);
        let mut worst = 0.0f64;
        for (name, (shape, expected)) in &run.golden.0 {
            let exact = matches!(
                name.as_str(),
                "input_ids"
                    | "image_grid_thw"
                    | "vision.window_index"
                    | "vision.cu_seqlens"
                    | "vision.cu_window_seqlens"
                    | "generated_ids"
                    | "pixel_values"
            );
            let stage = name.starts_with("vision.block")
                || name.starts_with("hidden.")
                || ["vision.patch_embed", "image_embeds", "inputs_embeds"].contains(&name.as_str());
            let whole = name.starts_with("vision.") || name.starts_with("image_") || name == "pixel_values";
            let error = |run: &Forward| {
                if whole || !run.is_batch() {
                    return distance(&run.ours.get(name).1, expected);
                }
                distance(&run.real(&run.ours, name), &run.real(&run.golden, name))
            };
            if exact {
                assert_eq!(error(&run), 0.0, "{}: {name}", run.name());
            } else if stage {
                let largest = expected.iter().fold(0.0f64, |m, x| m.max(x.abs()));
                assert!(error(&run) <= 2e-4 * largest, "{}: {name}", run.name());
            } else if ["logits", "logprobs", "entropy"].contains(&name.as_str()) {
                assert!(error(&run) <= run.bound(), "{}: {name}: {}", run.name(), error(&run));
                worst = worst.max(error(&run));
            } else if name == "position_ids" && !run.is_batch() {
                assert_eq!(run.ours.get(name), &(shape.clone(), expected.clone()), "{}", run.name());
            } else if name == "attn_last_sum" && !run.is_batch() {
                assert!(error(&run) <= 1e-4, "{}: {name}", run.name());
            } else {
                continue;
            }
            assert_eq!(run.ours.get(name).0, *shape, "{}: {name}", run.name());
        }
        println!("{:20} logits, logprobs, entropy: {worst:.1e}", run.name());
    }
}

#[test]
fn forward_on_its_own_pixels_agrees_with_pillow_and_transformers() {
    for dir in fixture::cases(&parity()) {
        let run = forward(&dir, false, &[]);
        let files = run.manifest["images"].as_array().cloned().unwrap_or_default();
        let name = |i: usize, what: &str| format!("image.{i}.{what}");
        let mut all_exact = true;
        for (i, file) in files.iter().enumerate() {
            let ours = run.ours.get(&name(i, "resized"));
            let Some(expected) = run.golden.0.get(&name(i, "resized_pil_hfirst")) else { continue };
            assert_eq!(ours.0, expected.0);
            let error = distance(&ours.1, &expected.1);
            assert_eq!(error, 0.0, "{}: image {i}, {}", run.name(), file["file"]);
            let either = run.golden.0.get(&name(i, "resized_pil"));
            all_exact &= either.is_some_and(|either| distance(&either.1, &expected.1) == 0.0);
        }
        let change = run.manifest["logit_change_if"]["Pillow instead of torchvision resize"].as_f64().unwrap_or(0.0);
        let bound = 2.0 * change + run.bound();
        let error = distance(&run.real(&run.ours, "logprobs"), &run.real(&run.golden, "logprobs"));
        // transformers puts a palette image with transparency on white, see models/tests/parity_support.
        if !run.golden.0.contains_key("image.0.rgb_pil_object") {
            assert!(error <= 2.0 * bound, "{}: logprobs {error}", run.name());
        }
        let Some((_, pixels)) = run.golden.0.get("pixel_values_pil").filter(|_| all_exact) else { continue };
        let ours = &run.ours.get("pixel_values").1;
        // A palette image with transparency: transformers puts it on white, see models/tests/parity_support.
        let composited = distance(ours, pixels) > 1.0 && run.golden.0.contains_key("image.0.rgb_pil_object");
        if composited {
            continue;
        }
        assert!(distance(ours, pixels) <= 1e-6, "{}: pixel_values", run.name());
        let error = distance(&run.real(&run.ours, "logits"), &run.real(&run.golden, "logits"));
        assert!(error <= bound, "{}: logits {error}", run.name());
        println!("{:20} own pixels: logits {error:.1e}", run.name());
    }
}

#[test]
fn forward_gives_gradients() {
    let mut compared = 0;
    for dir in fixture::cases(&parity()).into_iter().filter(|dir| dir.join("grads.safetensors").is_file()) {
        let run = forward(&dir, false, &["--gradients"]);
        assert!(distance(&run.ours.get("loss").1, &run.golden.get("loss").1) < 1e-5);
        for (name, (shape, expected)) in Tensors::open(&dir.join("grads.safetensors")).0 {
            let (own_shape, ours) = run.ours.get(&format!("grad.{name}"));
            assert_eq!(*own_shape, shape, "{name}");
            let norm = |x: &mut dyn Iterator<Item = f64>| x.map(|x| x * x).sum::<f64>().sqrt();
            let error = norm(&mut ours.iter().zip(&expected).map(|(a, b)| a - b)) / norm(&mut expected.iter().copied());
            assert!(error <= 1e-3, "{name}: {error}");
            compared += 1;
        }
    }
    assert!(compared > 50);
}

#[test]
fn forward_refuses_what_it_cannot_use() {
    let folder = tempfile::tempdir().unwrap();
    let case = root().join("tests/parity/single_image");
    let (model, golden) = (case.join("checkpoint"), case.join("golden.safetensors"));
    let out = folder.path().join("out.safetensors");
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    let chat = |content: Value| {
        let path = folder.path().join("messages.json");
        std::fs::write(&path, content.to_string()).unwrap();
        text(&path)
    };
    let run = |messages: &str, extra: &[&str]| {
        let (model, out) = (text(&model), text(&out));
        refuse(&[&["forward", "--model", &model, "--messages", messages, "--out", &out], extra].concat())
    };
    let image = |part: Value| json!([{"role": "user", "content": [part]}]);
    let said = run(&chat(image(json!({"type": "image_url", "image_url": {"url": "none.png"}}))), &[]);
    assert!(said.contains("none.png") && said.contains("message 1"), "{said}");
    let said = run(&chat(image(json!({"type": "image_url", "image_url": {"url": "https://x.org/a.png"}}))), &[]);
    assert!(said.contains("expected a path"), "{said}");
    assert!(run(&chat(image(json!({"type": "image"}))), &[]).contains("path of its image"));
    assert!(run(&chat(json!({"role": "user"})), &[]).contains("list of messages"));
    assert!(run(&chat(json!(["hello"])), &[]).contains("`role`"));
    assert!(run(&text(&folder.path().join("absent.json")), &[]).contains("absent.json"));
    std::fs::write(folder.path().join("broken.json"), "[{]").unwrap();
    assert!(run(&text(&folder.path().join("broken.json")), &[]).contains("not valid JSON"));
    let messages = text(&case.join("messages.json"));
    assert!(run(&messages, &["--pixels", &messages]).contains("safetensors"));
    let other = text(&root().join("tests/parity/three_images/golden.safetensors"));
    assert!(run(&messages, &["--pixels", &other]).contains("image_grid_thw"));
    let user = json!([[{"role": "user", "content": "a"}], [{"role": "user", "content": "b"}]]);
    assert!(run(&chat(user), &["--generate", "2"]).contains("--generate"));
    let absent = text(&folder.path().join("absent"));
    let said = refuse(&["forward", "--model", &absent, "--messages", &messages, "--out", &text(&out)]);
    assert!(said.contains("absent"), "{said}");
    assert!(!out.exists() && golden.exists());
}

/// `key = value` lines of an optimiser that is verl's loss of these hyper-parameters.
fn optimizer(hyper: &Value) -> String {
    let number = |name: &str| hyper[name].as_f64().unwrap();
    let dual = number("clip_ratio_c");
    let dual = if dual > 1e6 { "\"off\"".to_owned() } else { dual.to_string() };
    let aggregation = hyper["loss_agg_mode"].as_str().unwrap().replace('-', "_");
    format!(
        "type = \"grpo\"\nclip_low = {:?}\nclip_high = {:?}\ndual_clip = {dual}\naggregation = \"{aggregation}\"\n",
        number("clip_ratio_low"),
        number("clip_ratio_high"),
    )
}

#[test]
fn loss_agrees_with_verl() {
    let rl = root().join("algorithms/tests/rl");
    let golden = Tensors::open(&rl.join("rl_golden.safetensors"));
    let manifest: Value = serde_json::from_slice(&std::fs::read(rl.join("manifest.json")).unwrap()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let mut compared = 0;
    for case in manifest["cases"].as_array().unwrap() {
        let hyper = &case["hyper"];
        let known = ["token-mean", "seq-mean-token-mean", "seq-mean-token-sum"];
        let keys = ["clip_ratio_low", "clip_ratio_high", "clip_ratio_c", "loss_agg_mode"];
        let is_ours = case["function"] == "get_policy_loss_fn('vanilla')"
            && known.iter().any(|name| hyper["loss_agg_mode"] == *name)
            && hyper.as_object().unwrap().keys().all(|key| keys.contains(&key.as_str()));
        if !is_ours {
            continue;
        }
        let set = case["set"].as_str().unwrap();
        let input = |name: &str| golden.get(&format!("{set}/in/{name}"));
        let (shape, mask) = input("response_mask");
        let rows = [shape[0]];
        save(
            Path::new(&path("in")),
            &[
                ("new_logprobs", shape, &input("new_logprobs").1, Dtype::F32),
                ("old_logprobs", shape, &input("old_logprobs").1, Dtype::F32),
                ("mask", shape, mask, Dtype::I64),
                ("advantages", &rows, &input("seq_advantages").1, Dtype::F32),
                ("group", &rows, &input("group").1, Dtype::I64),
            ],
        );
        std::fs::write(path("opt.toml"), optimizer(hyper)).unwrap();
        succeed(&["loss", "--optimizer", &path("opt.toml"), "--in", &path("in"), "--out", &path("out")]);
        let ours = Tensors::open(Path::new(&path("out")));
        let name = case["name"].as_str().unwrap();
        for what in ["loss", "grad"] {
            let (shape, expected) = golden.get(case["outputs"][what].as_str().unwrap());
            let (own_shape, values) = ours.get(what);
            assert_eq!(own_shape, shape);
            let close = values.iter().zip(expected).all(|(a, b)| (a - b).abs() <= 2e-5 * b.abs() + 2e-6);
            assert!(close, "{name}: {what}: {}", distance(values, expected));
        }
        compared += 1;
    }
    assert!(compared >= 9, "{compared}");
    println!("{compared} cases of verl's policy loss");
}

#[test]
fn loss_makes_advantages_of_rewards_within_interleaved_groups() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let shape = [4, 3];
    let mask = [1., 1., 0., 1., 0., 1., 0., 0., 0., 1., 1., 1.];
    let new = [-1.0; 12];
    let reference = [-1.5; 12];
    save(
        Path::new(&path("in")),
        &[
            ("new_logprobs", &shape, &new, Dtype::F32),
            ("old_logprobs", &shape, &new, Dtype::F32),
            ("ref_logprobs", &shape, &reference, Dtype::F32),
            ("mask", &shape, &mask, Dtype::F32),
            ("rewards", &[4], &[1.0, 0.5, 0.0, 0.0], Dtype::F32),
            ("group", &[4], &[7.0, -3.0, 7.0, -3.0], Dtype::I64),
        ],
    );
    std::fs::write(path("opt.toml"), "[optimizer]\ntype = \"grpo\"\nkl_coef = 0.1\n").unwrap();
    let said = succeed(&["loss", "--optimizer", &path("opt.toml"), "--in", &path("in"), "--out", &path("out")]);
    assert!(said.contains("loss"), "{said}");
    let out = Tensors::open(Path::new(&path("out")));
    let unit = std::f64::consts::FRAC_1_SQRT_2;
    assert!(distance(&out.get("advantages").1, &[unit, unit, -unit, -unit]) < 1e-5);
    // On policy the gradient is −A / tokens, plus β (1 − e^d) of k3 with d = −0.5.
    let kl = 0.1 * (1.0 - (-0.5f64).exp());
    let grad: Vec<f64> = (0..12).map(|i| mask[i] * (kl - [unit, unit, -unit, -unit][i / 3]) / 7.0).collect();
    assert!(distance(&out.get("grad").1, &grad) < 1e-6);
    assert!(distance(&out.get("kl").1, &[(-0.5f64).exp() - 0.5]) < 1e-6);
    assert_eq!(out.get("loss").0, Vec::<usize>::new());
}

#[test]
fn loss_refuses_what_it_cannot_use() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let run = |toml: &str, tensors: &[(&str, &[usize], &[f64], Dtype)]| {
        std::fs::write(path("opt.toml"), toml).unwrap();
        save(Path::new(&path("in")), tensors);
        let said = refuse(&["loss", "--optimizer", &path("opt.toml"), "--in", &path("in"), "--out", &path("out")]);
        assert!(!Path::new(&path("out")).exists());
        said
    };
    let new = ("new_logprobs", &[1usize, 2][..], &[-1.0, -2.0][..], Dtype::F32);
    let mask = ("mask", &[1usize, 2][..], &[1.0, 1.0][..], Dtype::F32);
    let rewards = ("rewards", &[1usize][..], &[1.0][..], Dtype::F32);
    let group = ("group", &[1usize][..], &[0.0][..], Dtype::I64);
    let grpo = "type = \"grpo\"";
    assert!(run("type = \"grpo\"\nclip_lo = 0.1", &[new, mask, rewards, group]).contains("clip_lo"));
    assert!(run("type = \"grpoo\"", &[new, mask, rewards, group]).contains("grpo"));
    assert!(run("type = \"grpo\"\nclip_low = 7", &[new, mask, rewards, group]).contains("clip_low"));
    assert!(run(grpo, &[mask, rewards, group]).contains("new_logprobs"));
    assert!(run(grpo, &[new, rewards, group]).contains("`mask` is missing"));
    assert!(run(grpo, &[new, mask, rewards]).contains("`group` is missing"));
    assert!(run(grpo, &[new, mask, group]).contains("`rewards` and `advantages`"));
    assert!(run("type = \"grpo\"\nkl_coef = 0.1", &[new, mask, rewards, group]).contains("ref_logprobs"));
    let short = ("mask", &[1usize, 1][..], &[1.0][..], Dtype::F32);
    assert!(run(grpo, &[new, short, rewards, group]).contains("expected shape [1, 2], got [1, 1]"));
    std::fs::write(path("junk"), "junk").unwrap();
    assert!(
        refuse(&["loss", "--optimizer", &path("opt.toml"), "--in", &path("junk"), "--out", &path("out")])
            .contains("junk")
    );
}
