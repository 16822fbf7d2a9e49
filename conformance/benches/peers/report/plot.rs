//! Curves as SVG: both axes logarithmic, so that a constant cost is flat and a proportional one is a
//! diagonal, wherever they begin.

use plotters::prelude::{
    ChartBuilder, Circle, Color, IntoDrawingArea, IntoLogRange, LineSeries, PathElement, RGBColor,
    SVGBackend, SeriesLabelPosition, WHITE,
};

use super::grid::{count, time};
use super::results::Curve;

const SIZE: (u32, u32) = (720, 400);
/// Told apart also by those who do not see all colours.
const COLOURS: [RGBColor; 4] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
];
const LABEL: (&str, u32) = ("sans-serif", 14);

/// What went wrong while drawing to memory; nothing does.
pub(crate) type Failed = Box<dyn std::error::Error>;

/// A curve of cost per event.
pub(crate) fn svg(curve: &Curve) -> Result<String, Failed> {
    let points = || curve.series.iter().flat_map(|series| &series.points);
    let xs = || points().map(|point| point.x as f64);
    let (least, most) = (xs().fold(f64::MAX, f64::min), xs().fold(1.0, f64::max));
    let cost = points().map(|point| point.cost).fold(1.0, f64::max);
    let cheapest = points().map(|point| point.cost).fold(f64::MAX, f64::min);
    let mut text = String::new();
    {
        let area = SVGBackend::with_string(&mut text, SIZE).into_drawing_area();
        area.fill(&WHITE)?;
        let mut chart = ChartBuilder::on(&area)
            .margin(12)
            .margin_right(36)
            .caption(&curve.title, ("sans-serif", 18))
            .x_label_area_size(44)
            .y_label_area_size(92)
            .build_cartesian_2d(
                (least..most).log_scale(),
                (decade(cheapest)..decade(cost) * 10.0).log_scale(),
            )?;
        chart
            .configure_mesh()
            .label_style(LABEL)
            .x_desc(&curve.grows)
            .y_desc("time per event published")
            .x_label_formatter(&|x| count(x.round() as u64))
            .y_label_formatter(&|y| time(*y))
            .light_line_style(WHITE)
            .draw()?;
        for (series, colour) in curve.series.iter().zip(COLOURS) {
            let points = series
                .points
                .iter()
                .map(|point| (point.x as f64, point.cost));
            chart
                .draw_series(LineSeries::new(points.clone(), colour.stroke_width(2)))?
                .label(&series.name)
                .legend(move |(x, y)| {
                    PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(2))
                });
            chart.draw_series(points.map(|point| Circle::new(point, 3, colour.filled())))?;
        }
        chart
            .configure_series_labels()
            .label_font(LABEL)
            .position(SeriesLabelPosition::UpperLeft)
            .background_style(WHITE.mix(0.8))
            .draw()?;
        area.present()?;
    }
    Ok(text)
}

/// The power of ten at or below a cost.
fn decade(cost: f64) -> f64 {
    10_f64.powf(cost.log10().floor())
}
