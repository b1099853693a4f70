//! What `--set` changes is changed, and the resolved file says so.

use std::path::Path;

use imagent::config::{Config, closest};

use super::harness::{Place, figure, metrics};

#[test]
fn the_resolved_file_reads_back_as_the_same() {
    let sets = ["tools=[]", "masks.1.in_baseline=false", "optimizer.clip_high=0.28", "optimizer.dual_clip=3"];
    let text = Config::parse("", None, &sets).unwrap().to_toml();
    assert_eq!(Config::parse(&text, None, &[]).unwrap().to_toml(), text);
    assert!(text.contains("clip_high = 0.28\n") && text.contains("in_baseline = false") && text.contains("tools = []"));
}

#[test]
fn the_quickstart_is_valid() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs/quickstart.toml");
    let config = Config::read(&path, &["reward.tool_gain=0"]).unwrap();
    assert_eq!((config.name.as_str(), config.tools.len(), config.masks.len()), ("quickstart", 2, 2));
}

#[test]
fn a_new_type_is_a_new_plug_in() {
    let file = "[reward]\ntype = \"imagent\"\ntool_gain = 2.0\n";
    let text = |sets: &[&str]| Config::parse(file, None, sets).unwrap().to_toml();
    assert!(text(&["reward.type=accuracy"]).contains("[reward]\ntype = \"accuracy\""));
    assert!(text(&["reward.type=imagent"]).contains("tool_gain = 2.0"));
    assert!(text(&["reward.type=deepeyes"]).contains("[reward]\ntype = \"deepeyes\""));
}

#[test]
fn lists_are_changed_by_position_and_whole() {
    let tools = |sets: &[&str]| {
        let config = Config::parse("", None, sets).unwrap();
        config.tools.iter().map(|tool| tool.spec().name).collect::<Vec<_>>()
    };
    assert_eq!(tools(&[]), ["zoom_in", "look_back"]);
    assert_eq!(tools(&["tools=[]"]), [""; 0]);
    assert_eq!(tools(&["tools.0.type=look_back"]), ["look_back", "look_back"]);
    assert_eq!(tools(&["tools=[{type=\"look_back\"}]", "tools.1.type=zoom_in"]), ["look_back", "zoom_in"]);
}

#[test]
fn a_slip_finds_its_key_and_a_stranger_none() {
    let known: Vec<String> = ["learning_rate", "beta1", "beta2"].iter().map(|s| (*s).to_owned()).collect();
    assert_eq!(closest("lerning_rate", &known).as_deref(), Some("learning_rate"));
    assert_eq!(closest("rate", &known).as_deref(), Some("learning_rate"));
    assert_eq!(closest("momentum", &known), None);
}

#[test]
fn what_is_set_is_done() {
    let place = Place::new();
    let base = place.train("base", &["--set", "train.steps=1"]);
    let with = |name: &str, sets: &[&str]| {
        let sets: Vec<&str> = sets.iter().flat_map(|set| ["--set", set]).collect();
        place.train(name, &[&["--set", "train.steps=1"], sets.as_slice()].concat())
    };
    assert!(figure(&base, 1, "tool_rate") > 0.0, "the base zooms now and then");
    let gain = with("gain", &["reward.tool_gain=5"]);
    assert_eq!(figure(&base, 1, "accuracy"), figure(&gain, 1, "accuracy"));
    let tools = with("tools", &["tools=[]"]);
    assert_eq!(figure(&tools, 1, "tool_rate"), 0.0);
    let group = with("group", &["train.group_size=2", "train.prompts_per_step=3"]);
    assert_eq!(figure(&group, 1, "trajectories"), 6.0);
    assert_eq!(figure(&group, 1, "groups"), 3.0);
    let limits = with("limits", &["limits.max_new_tokens=1"]);
    assert_eq!(figure(&limits, 1, "end/length_limit"), 1.0);
    let masked = with("masked", &["masks.1.type=trajectory", "limits.max_new_tokens=1"]);
    assert_eq!(figure(&masked, 1, "update/count"), 0.0, "a wholly masked step updates nothing");
    assert_ne!(metrics(&base), metrics(&with("unmasked", &["masks=[]"])));
    let saved = std::fs::read_to_string(gain.join("config.toml")).unwrap();
    assert!(saved.contains("tool_gain = 5.0"), "{saved}");
}
