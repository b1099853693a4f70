//! `margin_zoom`: zooms with a margin around the box.

use imagent::prelude::*;
use serde::{Deserialize, Serialize};

/// A [`ZoomIn`] that shows some of what lies around the box. The model is told, and calls, `zoom_in`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MarginZoom {
    /// What each side moves outwards, as a fraction of the box's width or height. Default 0.25.
    pub margin: f64,
    /// What cuts the wider box.
    pub zoom: ZoomIn,
}

impl Default for MarginZoom {
    fn default() -> Self {
        Self { margin: 0.25, zoom: ZoomIn::default() }
    }
}

#[typetag::serde(name = "margin_zoom")]
impl Tool for MarginZoom {
    fn spec(&self) -> ToolSpec {
        self.zoom.spec()
    }

    fn call(&self, arguments: &Arguments, images: &ImageShelf) -> Result<Observation, ToolError> {
        let mut wider = arguments.clone();
        // What is no box of four numbers goes on as it is: `zoom_in` says what is wrong with it.
        if let Some(corners) = wider.get_mut("bbox_2d").and_then(|bbox| bbox.as_array_mut())
            && let [Some(x1), Some(y1), Some(x2), Some(y2)] = corners.iter().map(|c| c.as_f64()).collect::<Vec<_>>()[..]
        {
            let (dx, dy) = ((x2 - x1) * self.margin, (y2 - y1) * self.margin);
            *corners = [x1 - dx, y1 - dy, x2 + dx, y2 + dy].map(Into::into).into();
        }
        Tool::call(&self.zoom, &wider, images)
    }
}
