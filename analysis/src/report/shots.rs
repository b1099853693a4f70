//! The images of a report: each in the file once, however many trajectories show it, and no more of them than a page can bear.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt::Write;

use crate::plot::escape;
use crate::record::{ImageEntry, ImageSource};

/// Most bytes of images in a report, as they stand in it (base64). Beyond it images are left out, and their captions say so.
pub(crate) const MAX_BYTES: usize = 16 << 20;

/// The images that a page shows, collected while it is written.
pub(super) struct Shots {
    most: usize,
    kept: RefCell<Kept>,
}

#[derive(Default)]
struct Kept {
    ids: HashMap<(String, u32, u32), usize>,
    defs: String,
    bytes: usize,
}

/// Images of which a side is shorter are drawn with hard edges.
const SMALL: u32 = 160;

impl Shots {
    pub(super) fn new(most: usize) -> Self {
        Self { most, kept: RefCell::default() }
    }

    /// The image as an element of an SVG whose units are its pixels; `None` where there are no pixels, or no room.
    pub(super) fn element(&self, image: &ImageEntry) -> Option<String> {
        let Some(ImageSource::Embedded(url)) = &image.source else { return None };
        let (w, h) = (image.width.max(1), image.height.max(1));
        let mut kept = self.kept.borrow_mut();
        let key = (url.clone(), w, h);
        let id = match kept.ids.get(&key) {
            Some(id) => *id,
            None if kept.bytes + url.len() > self.most => return None,
            None => {
                let id = kept.ids.len() + 1;
                kept.bytes += url.len();
                let class = if w.max(h) < SMALL { r#" class="small""# } else { "" };
                let _ = write!(
                    kept.defs,
                    r#"<image id="shot-{id}"{class} href="{}" width="{w}" height="{h}" preserveAspectRatio="none"/>"#,
                    escape(url)
                );
                kept.ids.insert(key, id);
                id
            }
        };
        Some(format!(r##"<use href="#shot-{id}"/>"##))
    }

    /// The images themselves, to stand anywhere in the page.
    pub(super) fn definitions(&self) -> String {
        let kept = self.kept.borrow();
        match kept.defs.as_str() {
            "" => String::new(),
            defs => {
                format!(r#"<svg class="shot-store" width="0" height="0" aria-hidden="true"><defs>{defs}</defs></svg>"#)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_stands_once_and_the_room_is_kept() {
        let entry = |url: &str| ImageEntry {
            index: 1,
            width: 10,
            height: 20,
            shown: imagent_core::Size::new(28, 28),
            origin: None,
            source: Some(ImageSource::Embedded(url.to_owned())),
        };
        let shots = Shots::new(10);
        let first = shots.element(&entry("12345"));
        assert_eq!(first.as_deref(), Some(r##"<use href="#shot-1"/>"##));
        assert_eq!(shots.element(&entry("12345")), first);
        assert!(shots.element(&entry("123456")).is_none(), "11 bytes are too many");
        assert!(shots.element(&entry("54321")).is_some());
        assert_eq!(shots.definitions().matches("<image").count(), 2);
        let without = ImageEntry { source: None, ..entry("") };
        assert!(shots.element(&without).is_none() && Shots::new(9).definitions().is_empty());
    }
}
