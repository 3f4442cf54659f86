//! A comparison as an HTML page: one file that needs nothing else and fetches nothing.

use minijinja::value::Serde;
use serde::Serialize;

use crate::compare::chart;
use crate::compare::figures::Report;
use crate::compare::text;
use crate::report::environment;
use crate::train::report::ReportError;

#[derive(Serialize)]
struct View<'a> {
    report: &'a Report,
    basis: String,
    chart: String,
}

/// The whole file.
///
/// # Errors
/// Defects of the template and of the drawing only.
pub fn render(report: &Report) -> Result<String, ReportError> {
    let mut environment = environment();
    environment.add_filter("points", text::points);
    // The name's ending turns escaping on; the chart is our own and marked as safe there.
    environment.add_template("compare.html", include_str!("page.html"))?;
    let view = View { report, basis: text::basis(report), chart: chart::draw(&report.arms)? };
    Ok(environment.get_template("compare.html")?.render(Serde(view))?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::figures::tests::{arm, run, sample};

    #[test]
    fn a_page_has_its_figures_and_needs_nothing_else() {
        let page = render(&sample()).unwrap();
        for part in ["62.5%", "+16.7", "rollouts.n_concurrent = 8, not 4", "<svg", "after !"] {
            assert!(page.contains(part), "{part}: {page}");
        }
        for fetch in ["https:", "//cdn", "@import", "url(", "src=", "<script"] {
            assert!(!page.contains(fetch), "{fetch}");
        }
    }

    #[test]
    fn no_text_from_outside_becomes_markup() {
        let evil = "<script>alert(1)</script>\"'&";
        let mut odd = run(evil, "", &[(3, 1)]);
        odd.policy = evil.to_owned();
        for tally in odd.tasks.values_mut() {
            tally.category = Some(evil.to_owned());
            tally.planned = 9;
        }
        let arms = [arm(evil, vec![odd.clone(), odd.clone()]), arm("b", vec![odd])];
        let page = render(&Report::of(&arms, None)).unwrap();
        assert!(!page.contains("<script"), "{page}");
        assert!(page.matches("&lt;script").count() > 5, "the text is there to be read");
        // Of arms without any reward.
        let none = [arm("none", vec![run("none", "", &[(0, 0)])])];
        assert!(render(&Report::of(&none, None)).is_ok());
    }
}
