//! Pass@1 of all arms with their intervals, as SVG.

use plotters::backend::SVGBackend;
use plotters::chart::ChartBuilder;
use plotters::coord::ranged1d::{IntoSegmentedCoord as _, SegmentValue};
use plotters::drawing::IntoDrawingArea as _;
use plotters::element::{Circle, ErrorBar};
use plotters::style::{Color as _, RGBColor, WHITE};

use crate::compare::bootstrap::Estimate;
use crate::compare::figures::ArmFigures;
use crate::train::curves::DrawError;

const WIDTH: u32 = 760;
const ROW: u32 = 34;
const AXIS: u32 = 44;
const LABELS: u32 = 180;
/// Of a label: what fits.
const LABEL_CHARS: usize = 24;
/// Blue, of the palette of the curves (Okabe and Ito).
const COLOUR: RGBColor = RGBColor(0, 114, 178);

/// # Errors
/// A defect of the drawing.
pub fn draw(arms: &[ArmFigures]) -> Result<String, DrawError> {
    let mut svg = String::new();
    paint(&mut svg, arms).map_err(|error| DrawError::new(&*error))?;
    Ok(svg)
}

fn paint(svg: &mut String, arms: &[ArmFigures]) -> Result<(), Box<dyn std::error::Error>> {
    let count = arms.len().max(1);
    let size = (WIDTH, AXIS + ROW * count as u32);
    let area = SVGBackend::with_string(svg, size).into_drawing_area();
    area.fill(&WHITE)?;
    let label = |place: &SegmentValue<i32>| match place {
        SegmentValue::CenterOf(row) => {
            // The first arm is on top.
            let arm = (count - 1).checked_sub(*row as usize).and_then(|at| arms.get(at));
            arm.map(|arm| arm.arm.chars().take(LABEL_CHARS).collect()).unwrap_or_default()
        }
        _ => String::new(),
    };
    let mut chart = ChartBuilder::on(&area)
        .margin(8)
        .x_label_area_size(28)
        .y_label_area_size(LABELS)
        .build_cartesian_2d(0.0..1.0, (0..count as i32 - 1).into_segmented())?;
    chart
        .configure_mesh()
        .disable_y_mesh()
        .light_line_style(WHITE)
        .label_style(("sans-serif", 13))
        .x_labels(11)
        .x_label_formatter(&|share| format!("{:.0}%", 100.0 * share))
        .y_labels(count)
        .y_label_formatter(&label)
        .draw()?;
    for (place, arm) in arms.iter().rev().enumerate() {
        let Some(Estimate { mean, low, high }) = arm.pass_at_1 else { continue };
        let row = SegmentValue::CenterOf(place as i32);
        if let (Some(low), Some(high)) = (low, high) {
            let bar =
                ErrorBar::new_horizontal(row.clone(), low, mean, high, COLOUR.stroke_width(2), 10);
            chart.draw_series([bar])?;
        }
        chart.draw_series([Circle::new((mean, row), 4, COLOUR.filled())])?;
    }
    area.present()?;
    Ok(())
}
