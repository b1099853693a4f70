//! `imagent ablate`: its runs are those of `imagent train`, it resumes and reuses, and it says what is wrong with its file.

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use imagent::ablate::AblationConfig;
use serde_json::Value;

use super::done::Done;
use super::harness::{Place, metrics};

const LAB: &str = r#"
base = "config.toml"
seeds = [3, 4]
metrics = ["eval/accuracy", "eval/tool_rate", "reward/mean"]

[[arms]]
name = "plain"

[[arms]]
name = "bare"
set.tools = []
set.reward = { type = "accuracy" }
"#;

fn lab(text: &str) -> Place {
    let place = Place::new();
    fs::write(place.path("lab.toml"), text).unwrap();
    place
}

/// Same figures and same weights.
fn same(a: &Path, b: &Path) {
    assert_eq!(metrics(a), metrics(b));
    for file in ["model.safetensors", "trainer.safetensors", "trainer.json"] {
        let read = |run: &Path| fs::read(run.join("checkpoints/step-000003").join(file)).unwrap();
        assert!(read(a) == read(b), "{file} differs");
    }
    assert_eq!(fs::read(a.join("eval-after.json")).unwrap(), fs::read(b.join("eval-after.json")).unwrap());
}

#[test]
fn runs_are_those_of_train_whatever_the_jobs_and_done_ones_are_reused() {
    let place = lab(LAB);
    let done = place.run(&["ablate", "lab.toml", "--out", "one"]);
    assert!(
        done.err.contains("run 4/4  bare/seed-4  started") && done.err.contains("plain/seed-3  done in"),
        "{}",
        done.err
    );
    let told = done.ok();
    assert!(told.contains("eval/accuracy") && told.contains("difference") && told.contains("report.html"), "{told}");
    let one = place.path("one");

    let arms: [(&str, u64, &[&str]); 2] =
        [("plain", 4, &[]), ("bare", 3, &["--set", "tools=[]", "--set", "reward={ type = \"accuracy\" }"])];
    for (arm, seed, sets) in arms {
        let seed_set = format!("seed={seed}");
        let alone = place.train(&format!("alone-{arm}"), &[sets, &["--set", &seed_set]].concat());
        same(&alone, &one.join(format!("{arm}/seed-{seed}")));
    }

    let mut command = place.command(&["ablate", "lab.toml", "--out", "two", "--jobs", "2", "--json"]);
    let json = Done::from(command.env("RAYON_NUM_THREADS", "3").output().unwrap()).ok();
    for run in ["plain/seed-3", "plain/seed-4", "bare/seed-3", "bare/seed-4"] {
        same(&one.join(run), &place.path("two").join(run));
    }
    let table: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(fs::read_to_string(one.join("table.json")).unwrap().trim(), json.trim());
    let bare = &table["metrics"][1]["arms"][1];
    assert_eq!((&bare["arm"], &bare["mean"]), (&"bare".into(), &0.0.into()), "without tools none is used");
    assert_eq!(bare["values"].as_object().unwrap().len(), 2);
    assert!(bare["difference"]["interval"]["n"] == 2, "{bare}");

    let files = [
        "ablation.json",
        "table.md",
        "table.csv",
        "report.html",
        "figures/eval-accuracy.svg",
        "figures/eval-accuracy.png",
    ];
    files.iter().for_each(|file| assert!(one.join(file).is_file(), "{file} is missing"));
    let written = fs::metadata(one.join("plain/seed-3/metrics.jsonl")).unwrap().modified().unwrap();
    let again = place.run(&["ablate", "lab.toml", "--out", "one"]);
    assert!(again.err.contains("run 1/4  plain/seed-3  done already"), "{}", again.err);
    assert_eq!(again.ok(), told);
    assert_eq!(fs::metadata(one.join("plain/seed-3/metrics.jsonl")).unwrap().modified().unwrap(), written);
    fs::remove_file(one.join("report.html")).unwrap();
    place.run(&["report", "one"]).ok();
    assert!(one.join("report.html").is_file(), "`imagent report` makes it anew");
}

/// Further evaluations, and an arm that is not trained.
const EVALS: &str = r#"
[[arms]]
name = "start"
set.train.steps = 0

[[evals]]
name = "grey"
set.tools = [{ type = "withheld" }]

[[evals]]
name = "three"
set.data.eval.path = "three"
set.data.eval.synth.world.images = [3, 3]
set.data.eval.gold_crops = 112

[solved]
of = ["plain"]
also = ["plain/grey", "start"]
"#;

fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

#[test]
fn every_run_is_evaluated_further_and_what_is_whole_is_kept() {
    let metrics = r#""eval/accuracy", "grey/tool_rate", "three/accuracy""#;
    let place = lab(&LAB.replace(r#""eval/accuracy", "eval/tool_rate", "reward/mean""#, metrics));
    let text = fs::read_to_string(place.path("lab.toml")).unwrap() + EVALS;
    fs::write(place.path("lab.toml"), &text).unwrap();
    let args = ["ablate", "lab.toml", "--out", "lab", "--jobs", "2"];
    let told = place.run(&args).ok();
    let run = place.path("lab/plain/seed-3");
    for eval in ["grey", "three"] {
        for file in ["config.toml", "eval.json", "rollouts.jsonl"] {
            assert!(run.join("evals").join(eval).join(file).is_file(), "{eval}/{file} is missing");
        }
        let rollouts = fs::read_to_string(run.join("evals").join(eval).join("rollouts.jsonl")).unwrap();
        assert_eq!(rollouts.lines().count(), 4, "{eval}: an outcome a sample");
    }
    // By hand, the same figures.
    let sets = ["--set", "seed=3", "--set", "tools=[{ type = \"withheld\" }]"];
    let by_hand = ["eval", "config.toml", "--model", "lab/plain/seed-3/checkpoints/step-000003", "--json"];
    let by_hand: Value = serde_json::from_str(&place.run(&[&by_hand[..], &sets].concat()).ok()).unwrap();
    assert_eq!(by_hand["metrics"], json(&run.join("evals/grey/eval.json")));
    // What is not trained has figures too: those it starts with.
    let table = json(&place.path("lab/table.json"));
    let of = |metric: usize, arm: usize| &table["metrics"][metric]["arms"][arm]["values"]["4"];
    assert_eq!(of(0, 2), &json(&place.path("lab/start/seed-4/eval-before.json"))["accuracy"]);
    assert_eq!(of(1, 2), &json(&place.path("lab/start/seed-4/evals/grey/eval.json"))["tool_rate"]);
    let names: Vec<&str> = table["metrics"].as_array().unwrap().iter().map(|m| m["metric"].as_str().unwrap()).collect();
    assert_eq!(names[3..], ["solved_with_tool", "also_solved/plain"]);

    let eval = |name: &str| run.join("evals").join(name).join("eval.json");
    let written = |path: &Path| fs::metadata(path).unwrap().modified().unwrap();
    let (trained, three) = (written(&run.join("metrics.jsonl")), written(&eval("three")));
    fs::remove_file(eval("grey")).unwrap();
    let again = place.run(&args);
    assert!(again.err.contains("plain/seed-3  trained already, to be evaluated"), "{}", again.err);
    assert_eq!(again.ok(), told);
    assert!(
        eval("grey").is_file() && (written(&eval("three")), written(&run.join("metrics.jsonl"))) == (three, trained)
    );
    // An evaluation that is asked for otherwise is made anew, and its runs are not.
    fs::write(place.path("lab.toml"), text.replace("gold_crops = 112", "gold_crops = 56")).unwrap();
    place.run(&args).ok();
    assert!(written(&eval("three")) > three && written(&run.join("metrics.jsonl")) == trained);
}

#[test]
fn an_evaluation_that_fails_is_told_with_its_run() {
    let text =
        LAB.to_owned() + "[[evals]]\nname = \"far\"\nset.data.eval = { path = \"far\", synth.world.digits = 3 }\n";
    let place = lab(&text.replace("seeds = [3, 4]", "seeds = [3]"));
    let args = ["ablate", "lab.toml", "--out", "lab", "--set", "train.steps=1"];
    place.run(&args).ok();
    let run = place.path("lab/bare/seed-3");
    fs::remove_file(run.join("evals/far/eval.json")).unwrap();
    fs::remove_file(run.join("checkpoints/step-000001/model.safetensors")).unwrap();
    place.run(&args).fails(1, &["1 of 2 runs failed: bare/seed-3: evaluation far: "]);
    assert!(!run.join("evals/far/eval.json").exists());
}

#[test]
fn what_was_killed_goes_on_to_the_same_end() {
    let place = lab(&LAB.replace("seeds = [3, 4]", "seeds = [3]"));
    place.run(&["ablate", "lab.toml", "--out", "whole"]).ok();
    let args = ["ablate", "lab.toml", "--out", "cut"];
    let mut child = place.command(&args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let checkpoint = place.path("cut/plain/seed-3/checkpoints/step-000001");
    let since = Instant::now();
    while !checkpoint.exists() {
        assert!(since.elapsed() < Duration::from_secs(120), "no checkpoint came");
        std::thread::sleep(Duration::from_millis(2));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    // The run's own process ends by itself; until then the same command waits for it.
    let resumed = place.run(&args);
    let said = resumed.err.clone();
    resumed.ok();
    for arm in ["plain", "bare"] {
        same(&place.path("whole").join(arm).join("seed-3"), &place.path("cut").join(arm).join("seed-3"));
    }
    assert!(said.contains("plain/seed-3  goes on after") || said.contains("plain/seed-3  done already"), "{said}");
}

#[test]
fn an_arm_that_has_changed_is_refused_by_name_and_key() {
    let place = lab(LAB);
    let quick = ["ablate", "lab.toml", "--out", "lab", "--set", "train.steps=0"];
    place.run(&quick).ok();
    let changed = LAB.replace("set.reward = { type = \"accuracy\" }", "set.reward = { type = \"deepeyes\" }");
    fs::write(place.path("lab.toml"), changed).unwrap();
    place.run(&quick).fails(2, &["arm `bare`, seed 3", "`reward.", "bare/seed-3"]);
    fs::write(place.path("lab.toml"), LAB).unwrap();
    place
        .run(&[&quick[..4], &["--set", "train.steps=1"]].concat())
        .fails(2, &["arm `plain`", "`train.steps = 0`", "has 1 now"]);
    place.run(&quick).ok();
    let run = place.path("lab/plain/seed-3");
    place.run(&["ablate", "lab.toml", "--out", run.to_str().unwrap()]).fails(2, &["seed-3: holds a run already"]);
}

#[test]
fn one_run_that_fails_leaves_the_others_alone() {
    let text = LAB.replace("set.tools = []", "set.tools = []\nset.model.freeze = [\"nothing.*\"]");
    let place = lab(&text);
    let done = place.run(&["ablate", "lab.toml", "--out", "lab", "--set", "train.steps=1"]);
    done.fails(1, &["2 of 4 runs failed: bare/seed-3: ", "bare/seed-4: "]);
    assert!(done.out.contains("plain      2"), "{}", done.out);
    let report = fs::read_to_string(place.path("lab/report.html")).unwrap();
    assert!(report.contains("without seed 3, 4"));
}

#[test]
fn a_file_that_is_wrong_is_told_by_line_and_key() {
    let refused = |from: &str, to: &str, parts: &[&str]| {
        assert!(LAB.contains(from), "{from:?} is not in the file");
        let place = lab(&LAB.replacen(from, to, 1));
        place.run(&["ablate", "lab.toml", "--out", "lab"]).fails(2, &[&["lab.toml"], parts].concat());
        assert!(!place.path("lab").exists());
    };
    refused("seeds = [3, 4]", "seedz = [3, 4]", &["lab.toml:3: ", "unknown key `seedz`", "did you mean `seeds`?"]);
    refused("seeds = [3, 4]", "", &["`seeds`", "at least one seed"]);
    refused("seeds = [3, 4]", "seeds = [3, 3]", &["lab.toml:3: ", "seed 3 is there twice"]);
    refused("name = \"bare\"", "name = \"plain\"", &["lab.toml:10: ", "an arm called `plain` is there already"]);
    refused("name = \"bare\"", "name = \"../bare\"", &["`arms.1.name`", "letters"]);
    refused("name = \"bare\"", "nam = \"bare\"", &["`arms.1.nam`", "did you mean `name`?"]);
    refused("eval/accuracy", "eval/acuracy", &["lab.toml:4: ", "did you mean `eval/accuracy`?"]);
    refused(
        "base = \"config.toml\"",
        "base = \"absent.toml\"",
        &["lab.toml:2: ", "`base`", "absent.toml: No such file"],
    );
    refused("base = \"config.toml\"", "", &["`base`", "must name a config"]);
    refused("[[arms]]", "baseline = \"plian\"\n[[arms]]", &["`baseline`", "did you mean `plain`?"]);
    refused("set.tools = []", "set.seed = 3", &["`arms.1.set.seed`", "seeds are those of `seeds`"]);
    refused(
        "set.tools = []",
        "set.train.stepz = 3",
        &["arm `bare`", "unknown key `train.stepz`", "did you mean `steps`?"],
    );
    refused("set.tools = []", "set.tools.7.type = \"zoom_in\"", &["arm `bare`", "no position of a list"]);
    refused("type = \"accuracy\"", "type = \"acuracy\"", &["arm `bare`", "`reward", "did you mean `accuracy`?"]);
    let wrong_eval = |from: &str, to: &str, parts: &[&str]| {
        assert!(EVALS.contains(from), "{from:?} is not in the file");
        let place = lab(&(LAB.to_owned() + &EVALS.replacen(from, to, 1)));
        place.run(&["ablate", "lab.toml", "--out", "lab"]).fails(2, &[&["lab.toml"], parts].concat());
        assert!(!place.path("lab").exists());
    };
    wrong_eval(
        "name = \"three\"",
        "name = \"Grey\"",
        &["`evals.1.name`", "an evaluation called `Grey` is there already"],
    );
    wrong_eval("name = \"three\"", "name = \"zoom\"", &["`evals.1.name`", "`zoom/...`"]);
    wrong_eval("type = \"withheld\"", "type = \"withhold\"", &["arm `plain/grey`", "did you mean `withheld`?"]);
    wrong_eval("\"plain/grey\"", "\"plain/gray\"", &["`solved.also.0`", "did you mean `grey`?"]);
    wrong_eval("of = [\"plain\"]", "of = [\"plian\"]", &["`solved.of.0`", "did you mean `plain`?"]);
    wrong_eval("of = [\"plain\"]", "", &["`solved`", "both `of` and `also`"]);
    let place = lab(LAB);
    place
        .run(&["ablate", "lab.toml", "--set", "train.stepz=1"])
        .fails(2, &["--set train.stepz=1", "did you mean `steps`?"]);
    place.run(&["ablate", "lab.toml", "--jobs", "0"]).fails(2, &["--jobs", "at least 1"]);
    fs::create_dir(place.path("other")).unwrap();
    fs::write(place.path("other/notes.txt"), "x").unwrap();
    place.run(&["ablate", "lab.toml", "--out", "other"]).fails(2, &["holds other files already"]);
}

#[test]
fn the_shipped_ablations_are_read() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs/experiments");
    let mut count = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        // What others start from, and courses that make a base, are no ablations.
        if path.to_string_lossy().ends_with("base.toml") {
            continue;
        }
        let ablation = AblationConfig::read(&path, &[]).unwrap();
        assert!(ablation.arms.len() > 1, "{}", path.display());
        count += 1;
    }
    assert!(count >= 5);
}

#[test]
fn ctrl_c_keeps_checkpoints_and_the_same_command_goes_on() {
    let place = lab(&LAB.replace("seeds = [3, 4]", "seeds = [3]"));
    place.run(&["ablate", "lab.toml", "--out", "whole", "--set", "train.steps=12"]).ok();
    let args = ["ablate", "lab.toml", "--out", "cut", "--set", "train.steps=12", "--set", "train.checkpoint_every=0"];
    let child = place.command(&args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let rows = place.path("cut/plain/seed-3/metrics.jsonl");
    let since = Instant::now();
    while !fs::read_to_string(&rows).is_ok_and(|text| text.contains("\"step\":1")) {
        assert!(since.elapsed() < Duration::from_secs(120), "no step came");
        std::thread::sleep(Duration::from_millis(2));
    }
    let killed = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(killed.success());
    let stopped = Done::from(child.wait_with_output().unwrap());
    // Steps are short here: the run may have come to its end in between, but the next one does not start.
    stopped.fails(1, &["interrupted, ", "of 2 runs are done; the same command goes on"]);
    assert!(!place.path("cut/bare").exists(), "no further run starts");
    assert!(place.path("cut/plain/seed-3/checkpoints").exists(), "a checkpoint is kept");
    let whole_args: Vec<&str> = args.to_vec();
    place.run(&whole_args).ok();
    for arm in ["plain", "bare"] {
        assert_eq!(
            metrics(&place.path("whole").join(arm).join("seed-3")),
            metrics(&place.path("cut").join(arm).join("seed-3"))
        );
    }
}
