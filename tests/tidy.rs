//! The frame of the repository, checked: which crate depends on which, how files begin and how long they are, where
//! `unsafe` may stand, that plug-ins are listed, and that no path of somebody's machine is written down.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// Each package, and the packages of this workspace that it depends on (docs/architecture.md).
const EDGES: &[(&str, &[&str])] = &[
    ("custom_plugin", &["imagent"]),
    ("embed", &["imagent"]),
    (
        "imagent",
        &[
            "imagent-algorithms",
            "imagent-analysis",
            "imagent-core",
            "imagent-data",
            "imagent-models",
            "imagent-rewards",
            "imagent-tools",
        ],
    ),
    ("imagent-algorithms", &["imagent-core"]),
    ("imagent-analysis", &["imagent-core"]),
    ("imagent-core", &[]),
    ("imagent-data", &["imagent-core"]),
    ("imagent-models", &["imagent-core"]),
    ("imagent-rewards", &["imagent-core"]),
    ("imagent-tools", &["imagent-core"]),
];
/// Folders of the crates other than the facade's.
const CRATES: [&str; 9] = [
    "algorithms",
    "analysis",
    "core",
    "data",
    "examples/custom_plugin",
    "examples/embed",
    "models",
    "rewards",
    "tools",
];
/// Most lines of a source file.
const MOST_LINES: usize = 800;
/// Folders at the root of a file system that hold somebody's own files.
const PERSONAL: [&str; 5] = ["Users", "home", "root", "tmp", "work"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every text file that is not ignored by git: its path from the root, and its text.
fn files() -> Vec<(String, String)> {
    let ignored = fs::read_to_string(root().join(".gitignore")).unwrap();
    let ignored: Vec<&str> = ignored.lines().filter_map(|line| line.strip_prefix('/')).collect();
    let mut found = Vec::new();
    walk(root(), "", &ignored, &mut found);
    assert!(found.iter().any(|(path, _)| path == "tests/tidy.rs"), "the walk misses this very file");
    found
}

fn walk(dir: &Path, prefix: &str, ignored: &[&str], found: &mut Vec<(String, String)>) {
    let mut entries: Vec<_> = fs::read_dir(dir).unwrap().map(Result::unwrap).collect();
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let (kind, name) = (entry.file_type().unwrap(), entry.file_name().to_string_lossy().into_owned());
        let path = format!("{prefix}{name}");
        if kind.is_dir() {
            let foreign = name.starts_with('.') && ![".ci", ".github"].contains(&name.as_str());
            if !foreign && !ignored.contains(&path.as_str()) {
                walk(&entry.path(), &format!("{path}/"), ignored, found);
            }
        } else if kind.is_file()
            // In a worktree of git it is a file.
            && name != ".git"
            && let Ok(text) = String::from_utf8(fs::read(entry.path()).unwrap())
        {
            found.push((path, text));
        }
    }
}

fn sources() -> Vec<(String, String)> {
    files().into_iter().filter(|(path, _)| path.ends_with(".rs")).collect()
}

#[track_caller]
fn assert_none(rule: &str, offenders: Vec<String>) {
    assert!(offenders.is_empty(), "{rule}:\n  {}", offenders.join("\n  "));
}

#[test]
fn crates_depend_on_each_other_as_the_architecture_says() {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let metadata = Command::new(cargo)
        .args(["metadata", "--no-deps", "--format-version", "1", "--offline"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(metadata.status.success(), "{}", String::from_utf8_lossy(&metadata.stderr));
    let metadata: Value = serde_json::from_slice(&metadata.stdout).unwrap();
    let mut edges: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for package in metadata["packages"].as_array().unwrap() {
        let name = package["name"].as_str().unwrap();
        let ours = edges.entry(name).or_default();
        for dependency in package["dependencies"].as_array().unwrap() {
            let on = dependency["name"].as_str().unwrap();
            let is_ours = on == "imagent" || on.starts_with("imagent-");
            if is_ours && dependency["kind"].is_null() {
                ours.insert(on);
            } else if is_ours {
                assert!(name == "imagent" || on == "imagent-core", "the tests of {name} must not use {on}");
            }
        }
    }
    let wanted = EDGES.iter().map(|(name, on)| (*name, on.iter().copied().collect())).collect();
    assert_eq!(edges, wanted);
}

#[test]
fn crates_inherit_the_lints() {
    let manifests = CRATES.map(|krate| format!("{krate}/Cargo.toml")).into_iter().chain(["Cargo.toml".to_owned()]);
    let lax = manifests.filter(|path| {
        let text = fs::read_to_string(root().join(path)).unwrap();
        !text.contains("\n[lints]\nworkspace = true\n")
    });
    assert_none("a crate must take the workspace's lints", lax.collect());
}

#[test]
fn every_source_file_says_what_it_is_for() {
    let says = |text: &str| text.lines().next().is_some_and(|line| line.starts_with("//! ") && line.len() > 12);
    let silent = sources().into_iter().filter(|(_, text)| !says(text)).map(|(path, _)| path);
    assert_none("line 1 must be `//!` and what the file is for", silent.collect());
}

#[test]
fn source_files_are_short() {
    let lengths = sources().into_iter().map(|(path, text)| (path, text.lines().count()));
    let long = lengths.filter(|(_, lines)| *lines > MOST_LINES).map(|(path, lines)| format!("{path}: {lines} lines"));
    assert_none("a source file has at most 800 lines", long.collect());
}

#[test]
fn unsafe_stands_in_models_only() {
    let elsewhere = sources().into_iter().filter(|(path, _)| !path.starts_with("models/"));
    let lines = elsewhere.flat_map(|(path, text)| {
        let at = |(i, _): (usize, &str)| format!("{path}:{}", i + 1);
        text.lines().enumerate().filter(|(_, line)| has_unsafe(line)).map(at).collect::<Vec<_>>()
    });
    assert_none("`unsafe` is for the models crate", lines.collect());
}

/// Whether the line has the keyword, outside comments and not as a word of a text.
fn has_unsafe(line: &str) -> bool {
    let code = line.split("//").next().unwrap_or_default();
    let part_of_word = |c: char| c.is_alphanumeric() || "_-`'\"".contains(c);
    code.match_indices("unsafe").any(|(at, word)| {
        let (before, after) = (&code[..at], &code[at + word.len()..]);
        !before.ends_with(part_of_word) && !after.starts_with(part_of_word)
    })
}

#[test]
fn the_keyword_is_told_from_the_word() {
    let with = |rest: &str| ["", "unsafe", rest].join(" ");
    assert!(has_unsafe(&with("{ *pointer }")) && has_unsafe(&with("impl Send for A {}")));
    assert!(!has_unsafe("// unsafe here") && !has_unsafe("let policy = \"'unsafe-inline'\";"));
}

#[test]
fn plug_ins_are_listed_and_stand_in_files_of_their_own() {
    let sources = sources();
    for krate in ["algorithms", "rewards", "tools"] {
        let library = &sources.iter().find(|(path, _)| *path == format!("{krate}/src/lib.rs")).unwrap().1;
        let listed = listed(library);
        assert!(listed.is_sorted_by(|a, b| a < b), "{krate}: PLUGINS must be sorted: {listed:?}");
        let mut listed: Vec<&str> = listed.iter().filter_map(|entry| entry.last().copied()).collect();
        listed.sort_unstable();
        let own = sources.iter().filter(|(path, _)| path.starts_with(&format!("{krate}/src/")));
        let mut found: Vec<&str> = own.flat_map(|(path, text)| tags(path, text)).collect();
        found.sort_unstable();
        assert_eq!(listed, found, "{krate}: PLUGINS and the plug-ins in its folder differ");
    }
}

/// The entries of `PLUGINS`: a tag, or kind and tag.
fn listed(library: &str) -> Vec<Vec<&str>> {
    let (_, rest) = library.split_once("pub const PLUGINS").unwrap();
    let (list, _) = rest.split_once("];").unwrap();
    let words: Vec<&str> = list.split('"').skip(1).step_by(2).collect();
    words.chunks(if list.contains("kind:") { 2 } else { 1 }).map(<[&str]>::to_vec).collect()
}

/// The tags that a file registers: at most one, and that of the file's name.
fn tags<'a>(path: &str, text: &'a str) -> Vec<&'a str> {
    let attribute = |line: &'a str| line.trim_start().strip_prefix("#[typetag::serde(name = \"");
    let tags: Vec<&str> = text.lines().filter_map(attribute).filter_map(|rest| rest.split('"').next()).collect();
    let name = path.rsplit('/').next().and_then(|name| name.strip_suffix(".rs"));
    assert!(tags.iter().all(|tag| Some(*tag) == name), "{path}: registers {tags:?}");
    tags
}

#[test]
fn no_path_of_a_machine_is_written_down() {
    let offenders = files().into_iter().flat_map(|(path, text)| {
        let at = |(i, _): (usize, &str)| format!("{path}:{}", i + 1);
        text.lines().enumerate().filter(|(_, line)| has_personal_path(line)).map(at).collect::<Vec<_>>()
    });
    assert_none("a path of somebody's machine", offenders.collect());
}

/// Whether the line has an absolute path into one of [`PERSONAL`]; a part of an address or a relative path is none.
fn has_personal_path(line: &str) -> bool {
    PERSONAL.iter().any(|folder| {
        let path = format!("/{folder}/");
        line.match_indices(&path).any(|(at, _)| {
            let before = line[..at].chars().next_back();
            !before.is_some_and(|c| c.is_alphanumeric() || "._-~*}$".contains(c))
        })
    })
}

#[test]
fn paths_of_machines_are_told_from_addresses() {
    let personal = format!("open /{}/me/x", PERSONAL[0]);
    assert!(has_personal_path(&personal));
    assert!(!has_personal_path(&format!("https://example.org/{}/x", PERSONAL[0])));
    assert!(!has_personal_path("see data/root"));
}
