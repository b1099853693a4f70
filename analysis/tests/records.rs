//! Records of trajectories: what they keep, and that they come back as written.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, unreachable_pub)]

mod common;

use common::{records, scored};
use imagent_analysis::record::{rollouts_file, row_weights};
use imagent_analysis::{ImageCodec, ImageSource, TrajectoryRecord, read_rollouts, write_rollouts};
use imagent_core::{Origin, TrainRow};

#[test]
fn records_come_back_as_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(rollouts_file(10));
    assert!(path.ends_with("rollouts/step-000010.jsonl"));
    let mut written = records(6);
    written[1] = written[1].clone().with_advantage(-0.5);
    written[2].skipped = Some("no gold".into());
    write_rollouts(&path, &written).unwrap();
    assert_eq!(read_rollouts(&path).unwrap(), written);
    assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), 6);
}

#[test]
fn a_record_says_what_happened() {
    let scored = scored(6);
    let one_zoom = TrajectoryRecord::from(&scored[1]);
    assert_eq!(
        (one_zoom.sample.as_str(), one_zoom.kind.as_str(), one_zoom.gold.as_str()),
        ("which/0001", "which", "2")
    );
    assert_eq!(one_zoom.answer.as_deref(), Some("2"));
    assert_eq!((one_zoom.right(), one_zoom.used_tool(), one_zoom.calls()), (Some(true), true, 1));
    assert_eq!(one_zoom.turns[0].call.as_ref().map(|call| call.name.as_str()), Some("zoom_in"));
    assert_eq!(one_zoom.turns[0].images, [one_zoom.images.len()]);
    assert_eq!(one_zoom.images.last().and_then(|image| image.origin).map(|origin| origin.image), Some(2));
    assert_eq!(one_zoom.reward, 2.5);
    let refused = TrajectoryRecord::from(&scored[3]);
    assert_eq!(refused.turns[0].error.as_deref(), Some("no_image"));
    assert_eq!((refused.used_tool(), refused.calls()), (false, 1));
    let malformed = TrajectoryRecord::from(&scored[4]);
    assert_eq!((malformed.right(), malformed.answer), (Some(false), None));
    let skipped = TrajectoryRecord { skipped: Some("x".into()), ..one_zoom };
    assert_eq!(skipped.right(), None);
}

#[test]
fn tokens_keep_ids_logprobs_and_weights_but_no_image_tokens() {
    let scored = scored(2).remove(1);
    let trajectory = scored.trajectory.clone();
    let positions: Vec<usize> = trajectory.sampled().collect();
    let loss_mask = vec![0.5; positions.len()];
    let row = TrainRow {
        scored,
        group: 0,
        in_baseline: true,
        advantage: 1.5,
        token_advantages: None,
        correction: None,
        positions,
        loss_mask,
        old_logprobs: None,
        ref_logprobs: None,
    };
    let record = TrajectoryRecord::from(&row).with_tokens(&trajectory, Some(&row_weights(&row)), None);
    assert_eq!(record.advantage, Some(1.5));
    let images: usize =
        trajectory.spans.iter().filter(|span| span.start >= trajectory.prompt_len).map(|span| span.range().len()).sum();
    assert!(images > 0);
    assert_eq!(record.tokens.len(), trajectory.ids.len() - trajectory.prompt_len - images);
    for token in &record.tokens {
        let sampled = token.origin == Origin::Sampled;
        assert_eq!((token.mask, token.logprob), if sampled { (Some(0.5), -1.0) } else { (Some(0.0), 0.0) });
    }
}

#[test]
fn image_files_are_written_and_embedded_again() {
    let folder = tempfile::tempdir().unwrap();
    let scored = scored(2).remove(1);
    let shelf = &scored.trajectory.shelf;
    let record = TrajectoryRecord::from(&scored);
    let embedded = record.clone().with_images(shelf, ImageCodec::Png, 100).unwrap();
    let mut filed = record.with_image_files(shelf, folder.path(), "rollouts/images", ImageCodec::Png, 100).unwrap();
    let files: Vec<_> = filed.images.iter().filter_map(|image| image.source.clone()).collect();
    assert!(
        matches!(&files[0], ImageSource::File(file) if file.starts_with("rollouts/images/which_0001-")),
        "{files:?}"
    );
    filed.embed_images(folder.path()).unwrap();
    assert_eq!(filed, embedded);
}

#[test]
fn a_bad_line_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("r.jsonl");
    write_rollouts(&path, &records(1)).unwrap();
    let mut text = std::fs::read_to_string(&path).unwrap();
    text.push_str("{\"sample\": 3}\n");
    std::fs::write(&path, text).unwrap();
    let error = read_rollouts(&path).unwrap_err().to_string();
    assert!(error.contains("r.jsonl, line 2"), "{error}");
}
