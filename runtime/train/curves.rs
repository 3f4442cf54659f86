//! Curves over steps, as SVG.

use plotters::backend::SVGBackend;
use plotters::chart::{ChartBuilder, SeriesLabelPosition};
use plotters::drawing::IntoDrawingArea as _;
use plotters::element::{Circle, ErrorBar, PathElement};
use plotters::series::LineSeries;
use plotters::style::{BLACK, Color as _, RGBColor, WHITE};

/// A named line, or points with intervals.
#[derive(Clone, Debug, PartialEq)]
pub struct Curve {
    name: &'static str,
    /// Step, value.
    points: Vec<(f64, f64)>,
    /// Step, low, value, high.
    intervals: Vec<(f64, f64, f64, f64)>,
}

/// The drawing's own defect.
#[derive(Debug, thiserror::Error)]
#[error("a curve cannot be drawn: {0}")]
pub struct DrawError(String);

impl DrawError {
    pub fn new(error: &dyn std::error::Error) -> Self {
        Self(error.to_string())
    }
}

impl Curve {
    pub fn line(name: &'static str, points: Vec<(f64, f64)>) -> Self {
        Self { name, points, intervals: Vec::new() }
    }

    /// Of step, value, low and high.
    pub fn with_intervals(name: &'static str, found: Vec<(f64, f64, f64, f64)>) -> Self {
        let points = found.iter().map(|(step, value, ..)| (*step, *value)).collect();
        let intervals = found.into_iter().map(|(step, value, low, high)| (step, low, value, high));
        Self { name, points, intervals: intervals.collect() }
    }

    /// Those that can be drawn.
    fn finite(&self) -> impl Iterator<Item = (f64, f64)> {
        self.points.iter().copied().filter(|(_, value)| value.is_finite())
    }
}

const SIZE: (u32, u32) = (560, 280);
/// Told apart by most eyes (Okabe and Ito).
const COLOURS: [RGBColor; 4] =
    [RGBColor(0, 114, 178), RGBColor(213, 94, 0), RGBColor(0, 158, 115), RGBColor(204, 121, 167)];

/// All of them over one another.
///
/// # Errors
/// A defect of the drawing.
pub fn draw(curves: &[Curve]) -> Result<String, DrawError> {
    let mut svg = String::new();
    paint(&mut svg, curves).map_err(|error| DrawError::new(&*error))?;
    Ok(svg)
}

fn paint(svg: &mut String, curves: &[Curve]) -> Result<(), Box<dyn std::error::Error>> {
    let area = SVGBackend::with_string(svg, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    let all = || {
        let intervals = curves.iter().flat_map(|curve| &curve.intervals);
        let ends = intervals.flat_map(|(step, low, _, high)| [(*step, *low), (*step, *high)]);
        curves.iter().flat_map(Curve::finite).chain(ends)
    };
    let steps = range(all().map(|(step, _)| step));
    let values = range(all().map(|(_, value)| value).chain([0.0]));
    let mut chart = ChartBuilder::on(&area)
        .margin(8)
        .x_label_area_size(28)
        .y_label_area_size(52)
        .build_cartesian_2d(steps, values)?;
    chart.configure_mesh().light_line_style(WHITE).x_labels(8).y_labels(6).draw()?;
    for (curve, colour) in curves.iter().zip(COLOURS.iter().cycle()) {
        let style = colour.stroke_width(2);
        chart
            .draw_series(LineSeries::new(curve.finite(), style))?
            .label(curve.name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], style));
        let marks = curve.intervals.iter().map(|&(step, low, value, high)| {
            ErrorBar::new_vertical(step, low, value, high, colour.filled(), 8)
        });
        chart.draw_series(marks)?;
        if curve.points.len() == 1 {
            chart
                .draw_series(curve.finite().map(|point| Circle::new(point, 3, colour.filled())))?;
        }
    }
    if curves.len() > 1 {
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperLeft)
            .background_style(WHITE.mix(0.8))
            .border_style(BLACK.mix(0.2))
            .draw()?;
    }
    area.present()?;
    Ok(())
}

/// What holds all of them, with some air above; never empty.
fn range(values: impl Iterator<Item = f64>) -> std::ops::Range<f64> {
    let (low, high) = values
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), it| (low.min(it), high.max(it)));
    if !low.is_finite() {
        return 0.0..1.0;
    }
    let air = ((high - low) * 0.05).max(1e-9);
    low..(high + air).max(low + 1e-6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn curves_of_any_numbers_can_be_drawn() {
        let odd = vec![(1.0, 0.0), (2.0, f64::NAN), (3.0, f64::INFINITY), (4.0, 1e30)];
        let flat = vec![(1.0, 0.5), (2.0, 0.5)];
        let held_out = Curve::with_intervals("held out", vec![(0.0, 0.5, 0.4, 0.6)]);
        for curves in [
            vec![],
            vec![Curve::line("none", vec![])],
            vec![Curve::line("odd", odd), held_out],
            vec![Curve::line("flat", flat), Curve::line("one", vec![(7.0, -1.0)])],
        ] {
            let svg = draw(&curves).unwrap();
            assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"), "{svg}");
        }
    }
}
