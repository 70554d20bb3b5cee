//! The results as a picture: a group of bars for each load, a bar for each arrangement, as long as its time is for the
//! time without protection.

use std::fmt::Write as _;

use super::results::{Results, Time};
use super::setting::REFERENCE;

/// Colours of the arrangements, in the order of their first run: told apart by people who see few colours, too.
const COLOURS: [&str; 8] = [
    "#8c8c8c", "#0072b2", "#56b4e9", "#009e73", "#d55e00", "#e69f00", "#cc79a7", "#6a3d9a",
];
const WIDTH: f64 = 960.0;
const LEFT: f64 = 190.0;
const RIGHT: f64 = 70.0;
const BAR: f64 = 13.0;
const GAP: f64 = 10.0;
/// A bar is cut here: one slow load must not make all others short.
const LONGEST: f64 = 4.0;

/// The picture of everything measured under `time`; `None` if there is nothing to compare.
pub(crate) fn svg(results: &Results, time: Time) -> Option<String> {
    let settings = results.settings(time);
    let loads = results.loads();
    let ratio = |name: &str, load| results.ratio(name, REFERENCE, time, load);
    let ratios = settings.iter().flat_map(|setting| {
        loads
            .iter()
            .filter_map(move |load| ratio(setting.name, *load))
    });
    let most = ratios.fold(1.0_f64, f64::max).min(LONGEST);
    if settings.len() < 2 || loads.is_empty() {
        return None;
    }
    let scale = (WIDTH - LEFT - RIGHT) / most;
    let group = settings.len() as f64 * BAR + GAP;
    let top = 62.0 + settings.len().div_ceil(2) as f64 * 20.0;
    let height = top + loads.len() as f64 * group + 24.0;

    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\" font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"{WIDTH}\" height=\"{height}\" fill=\"white\"/>\n"
    );
    text(
        &mut svg,
        16.0,
        24.0,
        "font-size=\"16\" font-weight=\"bold\"",
        "Time of a request to an NVMe drive",
    );
    let subtitle = format!(
        "in {}, for that without protection; shorter is faster",
        time.unit()
    );
    text(&mut svg, 16.0, 42.0, "fill=\"#555\"", &subtitle);
    for (index, setting) in settings.iter().enumerate() {
        let (column, row) = ((index % 2) as f64, (index / 2) as f64);
        let (x, y) = (16.0 + column * 460.0, 64.0 + row * 20.0);
        rectangle(&mut svg, x, y - 10.0, 12.0, COLOURS[index % COLOURS.len()]);
        let name = format!("{}: {}", setting.name, setting.title);
        text(&mut svg, x + 18.0, y, "", &name);
    }
    let unity = LEFT + scale;
    let _ = writeln!(
        svg,
        "<line x1=\"{unity:.1}\" y1=\"{:.1}\" x2=\"{unity:.1}\" y2=\"{:.1}\" stroke=\"#444\" stroke-dasharray=\"3 3\"/>",
        top - 4.0,
        height - 20.0
    );
    text(&mut svg, unity - 3.0, height - 6.0, "", "1");
    for (index, load) in loads.iter().enumerate() {
        let y = top + index as f64 * group;
        let middle = y + (group - GAP) / 2.0 + 4.0;
        text(
            &mut svg,
            LEFT - 8.0,
            middle,
            "text-anchor=\"end\"",
            &load.name(),
        );
        for (place, setting) in settings.iter().enumerate() {
            let Some(ratio) = results.ratio(setting.name, REFERENCE, time, *load) else {
                continue;
            };
            let y = y + place as f64 * BAR;
            let length = ratio.min(LONGEST) * scale;
            rectangle(&mut svg, LEFT, y, length, COLOURS[place % COLOURS.len()]);
            let label = format!("{ratio:.2}");
            text(
                &mut svg,
                LEFT + length + 4.0,
                y + BAR - 3.0,
                "font-size=\"10\"",
                &label,
            );
        }
    }
    svg.push_str("</svg>\n");
    Some(svg)
}

fn rectangle(svg: &mut String, x: f64, y: f64, width: f64, colour: &str) {
    let height = BAR - 2.0;
    let _ = writeln!(
        svg,
        "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height}\" fill=\"{colour}\"/>"
    );
}

fn text(svg: &mut String, x: f64, y: f64, attributes: &str, content: &str) {
    let content = content
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;");
    let _ = writeln!(
        svg,
        "<text x=\"{x:.1}\" y=\"{y:.1}\" {attributes}>{content}</text>"
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::results::tests::run;

    #[test]
    fn each_arrangement_has_a_bar_as_long_as_its_ratio() {
        let mut results = Results::default();
        results.runs.push(run("native", 100, 0, 0));
        assert_eq!(svg(&results, Time::Wall), None, "nothing to compare");
        results.runs.push(run("strict", 200, 0, 0));
        let svg = svg(&results, Time::Wall).unwrap();
        // The longest bar fills the room; the reference is half as long.
        assert!(svg.contains("width=\"700.0\""), "{svg}");
        assert!(svg.contains("width=\"350.0\""), "{svg}");
        assert!(
            svg.contains(">2.00<") && svg.contains("Linux, strict IOMMU"),
            "{svg}"
        );
        assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"));
    }

    #[test]
    fn what_is_written_cannot_end_an_element() {
        let mut out = String::new();
        text(&mut out, 0.0, 0.0, "", "a < b & c");
        assert!(out.contains("a &lt; b &amp; c"), "{out}");
    }
}
