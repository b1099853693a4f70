//! A chart as a PNG: the geometry of the SVG, drawn at twice its size in the light colours.

use std::io::Cursor;

use image::{ImageFormat, RgbImage};
use noto_sans_mono_bitmap::{FontWeight, RasterHeight, get_raster};
use tiny_skia::{Color, FillRule, LineCap, LineJoin, Paint, PathBuilder, Pixmap, Stroke, Transform};

use super::chart::{Chart, Frame, LEFT, LETTER, PLOT, RIGHT, Series, Style, TIPS, WIDTH};
use super::lines::{DOTS, POINTS, SMOOTHED, height, outline};
use super::scale::{Scale, number};
use super::smooth::{Bucket, buckets, smooth, thin};
use super::stacked;

/// Pixels of a unit of the chart.
const SCALE: f32 = 2.0;
/// The colours of the series in `chart.css`, light.
const COLORS: [u32; 8] = [0x2a78d6, 0xd95f0e, 0x1a9a72, 0xb0559b, 0xb98600, 0x6b5bd2, 0xc7384a, 0x5f6b7a];
const TEXT: u32 = 0x1f2530;
const MUTED: u32 = 0x667080;
const GRID: u32 = 0xe3e6eb;

/// Where a text stands from its point.
#[derive(Clone, Copy)]
enum Anchor {
    Start,
    Middle,
    End,
}

impl Chart {
    /// The chart as a PNG file, 880 pixels wide. Letters other than those of ASCII appear as `?`.
    ///
    /// ```
    /// # use imagent_analysis::plot::{Chart, Series};
    /// let chart = Chart { series: vec![Series::new("a", vec![(1.0, 0.2), (2.0, 0.7)])], ..Chart::default() };
    /// assert!(chart.png().starts_with(b"\x89PNG"));
    /// ```
    pub fn png(&self) -> Vec<u8> {
        let points: Vec<&[(f64, f64)]> = self.series.iter().map(|series| series.points.as_slice()).collect();
        let buckets = buckets(&points, TIPS);
        let places = self.legend_places();
        let rows = places.last().map_or(0, |place| place.1 + 1);
        let top = 34.0 + 16.0 * rows as f64;
        let bottom = top + PLOT;
        let (x, y) =
            (Scale::new(self.x_range(), (LEFT, WIDTH - RIGHT)), Scale::new(self.y_range(&buckets), (bottom, top)));
        let frame = Frame { x, y, top, bottom };
        let Some(mut canvas) = Canvas::new(WIDTH, bottom + 36.0) else { return Vec::new() };
        self.raster_axes(&frame, &mut canvas);
        match self.style {
            Style::Lines => self.series.iter().enumerate().for_each(|(i, s)| raster_line(s, i, &frame, &mut canvas)),
            Style::Stacked => self.raster_areas(&buckets, &frame, &mut canvas),
        }
        canvas.text(2.0, 15.0, &self.title, (TEXT, true), Anchor::Start);
        for (i, (series, (x, row))) in self.series.iter().zip(&places).enumerate() {
            let y = 32.0 + 16.0 * *row as f64;
            canvas.fill(&[(*x, y - 8.0), (x + 10.0, y - 8.0), (x + 10.0, y), (*x, y)], COLORS[i % 8], 1.0);
            canvas.text(x + 14.0, y, &legend_text(series), (TEXT, false), Anchor::Start);
        }
        canvas.png()
    }

    /// `(x, row)` of each entry of the legend; none for a single series, which the title names.
    fn legend_places(&self) -> Vec<(f64, usize)> {
        let (mut x, mut row) = (2.0, 0);
        let place = |series: &Series| {
            let width = 16.0 + LETTER * legend_text(series).chars().count() as f64 + 8.0;
            if x > 2.0 && x + width > WIDTH {
                (x, row) = (2.0, row + 1);
            }
            let here = (x, row);
            x += width;
            here
        };
        if self.series.len() < 2 { Vec::new() } else { self.series.iter().map(place).collect() }
    }

    fn raster_axes(&self, frame: &Frame, canvas: &mut Canvas) {
        let (left, right, bottom) = (LEFT, WIDTH - RIGHT, frame.bottom);
        for (value, label) in frame.y.ticks(5) {
            let y = frame.y.at(value);
            canvas.line(&[(left, y), (right, y)], GRID, 1.0, 1.0);
            canvas.text(left - 6.0, y + 4.0, &label, (MUTED, false), Anchor::End);
        }
        for (value, label) in frame.x.ticks(6) {
            canvas.text(frame.x.at(value), bottom + 15.0, &label, (MUTED, false), Anchor::Middle);
        }
        canvas.line(&[(left, bottom), (right, bottom)], MUTED, 1.0, 0.6);
        canvas.text((left + right) / 2.0, bottom + 30.0, &self.x_label, (MUTED, false), Anchor::Middle);
        canvas.text_upwards(11.0, (frame.top + bottom) / 2.0, &self.y_label, MUTED);
    }

    fn raster_areas(&self, buckets: &[Bucket], frame: &Frame, canvas: &mut Canvas) {
        for (i, points) in stacked::areas(buckets, self.series.len(), frame).iter().enumerate() {
            canvas.fill(&placed(points, frame), COLORS[i % 8], 0.85);
        }
    }
}

fn legend_text(series: &Series) -> String {
    let last = series.last().map(|value| format!(" {}", number(value))).unwrap_or_default();
    format!("{}{last}", series.name)
}

fn placed(points: &[(f64, f64)], frame: &Frame) -> Vec<(f64, f64)> {
    points.iter().map(|&(x, y)| (frame.x.at(x), height(y, frame))).collect()
}

fn raster_line(series: &Series, position: usize, frame: &Frame, canvas: &mut Canvas) {
    let color = COLORS[position % 8];
    canvas.fill(&placed(&outline(&series.band), frame), color, 0.15);
    let raw = placed(&thin(&series.points, POINTS), frame);
    if series.points.len() > SMOOTHED {
        canvas.line(&raw, color, 1.0, 0.3);
    }
    canvas.line(&placed(&thin(&smooth(&series.points), POINTS), frame), color, 2.0, 1.0);
    if raw.len() <= DOTS {
        raw.iter().for_each(|&(x, y)| canvas.dot(x, y, 3.0, color));
    }
}

/// Pixels to draw on, in units of the chart.
struct Canvas {
    pixels: Pixmap,
}

impl Canvas {
    fn new(width: f64, height: f64) -> Option<Self> {
        let side = |units: f64| (units as f32 * SCALE).ceil() as u32;
        let mut pixels = Pixmap::new(side(width), side(height))?;
        pixels.fill(Color::WHITE);
        Some(Self { pixels })
    }

    fn line(&mut self, points: &[(f64, f64)], color: u32, width: f32, alpha: f32) {
        let Some(path) = path(points) else { return };
        let stroke = Stroke { width, line_cap: LineCap::Round, line_join: LineJoin::Round, ..Stroke::default() };
        let scale = Transform::from_scale(SCALE, SCALE);
        self.pixels.stroke_path(&path, &paint(color, alpha), &stroke, scale, None);
    }

    fn fill(&mut self, points: &[(f64, f64)], color: u32, alpha: f32) {
        let Some(path) = path(points) else { return };
        let scale = Transform::from_scale(SCALE, SCALE);
        self.pixels.fill_path(&path, &paint(color, alpha), FillRule::Winding, scale, None);
    }

    fn dot(&mut self, x: f64, y: f64, radius: f32, color: u32) {
        let Some(path) = PathBuilder::from_circle(x as f32, y as f32, radius) else { return };
        let scale = Transform::from_scale(SCALE, SCALE);
        self.pixels.fill_path(&path, &paint(color, 1.0), FillRule::Winding, scale, None);
    }

    /// Text with its baseline at `y`; strong text is that of titles.
    fn text(&mut self, x: f64, y: f64, text: &str, (color, strong): (u32, bool), anchor: Anchor) {
        let (dots, width) = dots(text, strong);
        let x = x as f32 * SCALE
            - match anchor {
                Anchor::Start => 0.0,
                Anchor::Middle => width as f32 / 2.0,
                Anchor::End => width as f32,
            };
        let (left, top) = (x.round() as i64, (y as f32 * SCALE).round() as i64 - rise(strong));
        dots.iter().for_each(|&(dx, dy, ink)| self.mix(left + dx, top + dy, color, ink));
    }

    /// Text that reads upwards, its middle at `y`.
    fn text_upwards(&mut self, x: f64, y: f64, text: &str, color: u32) {
        let (dots, width) = dots(text, false);
        let (left, bottom) = ((x as f32 * SCALE) as i64 - rise(false), (y as f32 * SCALE) as i64 + width / 2);
        dots.iter().for_each(|&(dx, dy, ink)| self.mix(left + dy, bottom - dx, color, ink));
    }

    fn mix(&mut self, x: i64, y: i64, color: u32, ink: u8) {
        let (width, height) = (i64::from(self.pixels.width()), i64::from(self.pixels.height()));
        if !(0..width).contains(&x) || !(0..height).contains(&y) {
            return;
        }
        let at = 4 * (y * width + x) as usize;
        let Some(pixel) = self.pixels.data_mut().get_mut(at..at + 3) else { return };
        for (value, wanted) in pixel.iter_mut().zip([color >> 16, color >> 8, color].map(|c| c & 0xff)) {
            let (old, ink) = (u32::from(*value), u32::from(ink));
            *value = ((old * (255 - ink) + wanted * ink) / 255) as u8;
        }
    }

    fn png(&self) -> Vec<u8> {
        let rgb: Vec<u8> =
            self.pixels.data().chunks_exact(4).flat_map(|pixel| [pixel[0], pixel[1], pixel[2]]).collect();
        let mut bytes = Vec::new();
        // Encoding into memory fails for no image of the right length.
        if let Some(image) = RgbImage::from_raw(self.pixels.width(), self.pixels.height(), rgb) {
            let _ = image.write_to(&mut Cursor::new(&mut bytes), ImageFormat::Png);
        }
        bytes
    }
}

/// Pixels from a text's top to its baseline.
fn rise(strong: bool) -> i64 {
    if strong { 19 } else { 16 }
}

/// The inked pixels of a text, and its width.
fn dots(text: &str, strong: bool) -> (Vec<(i64, i64, u8)>, i64) {
    let (weight, size) = match strong {
        true => (FontWeight::Bold, RasterHeight::Size24),
        false => (FontWeight::Regular, RasterHeight::Size20),
    };
    let (mut found, mut left) = (Vec::new(), 0);
    for c in text.chars() {
        let c = if matches!(c, '–' | '−') { '-' } else { c };
        let Some(raster) = get_raster(c, weight, size).or_else(|| get_raster('?', weight, size)) else { continue };
        for (y, row) in raster.raster().iter().enumerate() {
            let inked = row.iter().enumerate().filter(|(_, ink)| **ink > 0);
            found.extend(inked.map(|(x, &ink)| (left + x as i64, y as i64, ink)));
        }
        left += raster.width() as i64;
    }
    (found, left)
}

fn path(points: &[(f64, f64)]) -> Option<tiny_skia::Path> {
    let mut builder = PathBuilder::new();
    for (i, &(x, y)) in points.iter().enumerate() {
        if i == 0 { builder.move_to(x as f32, y as f32) } else { builder.line_to(x as f32, y as f32) }
    }
    builder.finish()
}

fn paint(color: u32, alpha: f32) -> Paint<'static> {
    let part = |shift: u32| (color >> shift & 0xff) as u8;
    let mut paint = Paint { anti_alias: true, ..Paint::default() };
    paint.set_color_rgba8(part(16), part(8), part(0), (alpha * 255.0).round() as u8);
    paint
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(chart: &Chart) -> RgbImage {
        image::load_from_memory(&chart.png()).unwrap().to_rgb8()
    }

    #[test]
    fn lines_bands_and_letters_are_drawn() {
        let series =
            Series { band: vec![(0.0, 0.2, 0.8), (4.0, 0.2, 0.8)], ..Series::new("a", vec![(0.0, 0.5), (4.0, 0.5)]) };
        let chart = Chart { title: "Title ä".into(), series: vec![series], ..Chart::default() };
        let image = picture(&chart);
        assert_eq!(image.width(), 880);
        let count = |wanted: [i32; 3]| {
            let near = |p: &&image::Rgb<u8>| p.0.iter().zip(wanted).all(|(a, b)| (i32::from(*a) - b).abs() < 12);
            image.pixels().filter(near).count()
        };
        assert!(count([0x2a, 0x78, 0xd6]) > 1_500, "the line");
        assert!(count([223, 235, 249]) > 50_000, "the band");
        assert!(count([0x1f, 0x25, 0x30]) > 60, "the title");
    }

    #[test]
    fn strange_data_still_make_a_picture() {
        let of =
            |points: Vec<(f64, f64)>| vec![Series::new("s", points), Series::new("a longer name ".repeat(9), vec![])];
        for style in [Style::Lines, Style::Stacked] {
            for points in [
                vec![],
                vec![(1.0, f64::NAN)],
                vec![(1.0, 0.0)],
                (0..900).map(|i| (f64::from(i), f64::from(i).sin())).collect(),
            ] {
                assert!(picture(&Chart { style, series: of(points), ..Chart::default() }).height() > 300);
            }
        }
    }
}
