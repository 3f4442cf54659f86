//! What teams used, on a terminal: a line for each role, and cells of the tasks' table.

use crate::summary_team::{RoleSummary, Spent};
use crate::table::{dash, seconds};

/// What a terminal must be wide for all columns of the roles.
const ALL_WIDTH: u16 = 96;

/// A heading, a line for each role, and one for all of them; nothing where there were no teams.
pub fn roles(roles: &[RoleSummary], width: u16) -> Vec<String> {
    if roles.is_empty() {
        return Vec::new();
    }
    let all = Spent::sum(roles.iter().map(|role| &role.spent));
    let agents = roles.iter().map(|role| role.agents).sum();
    let heading =
        ["role", "agents", "turns", "prompt", "cached", "completion", "cost", "model", "acting"];
    let mut rows = vec![heading.map(str::to_owned)];
    rows.extend(roles.iter().map(|role| row(role.role.as_str(), role.agents, &role.spent)));
    rows.push(row("team", agents, &all));
    rows.iter().map(|row| line(row, width)).collect()
}

fn row(name: &str, agents: u64, spent: &Spent) -> [String; 9] {
    [
        name.to_owned(),
        agents.to_string(),
        spent.turns.to_string(),
        tokens(spent.prompt_tokens),
        cached(spent),
        tokens(spent.completion_tokens),
        dollars(spent.cost_usd),
        seconds(spent.model_sec),
        seconds(spent.action_sec),
    ]
}

fn line(row: &[String; 9], width: u16) -> String {
    let [name, agents, turns, prompt, cached, completion, cost, model, acting] = row;
    let start = format!("{name:<12}");
    match width {
        ALL_WIDTH.. => format!(
            "{start}{agents:>8}{turns:>8}{prompt:>9}{cached:>9}{completion:>12}{cost:>10}\
             {model:>13}{acting:>13}"
        ),
        _ => format!("{start}{turns:>8}{prompt:>9}{completion:>12}{cost:>10}{model:>13}"),
    }
}

/// Turns, tokens and cost of a rollout of a task, on average.
pub fn means(spent: Option<&Spent>, rollouts: u64) -> [String; 3] {
    match spent {
        Some(spent) if rollouts > 0 => {
            let mean = |sum: u64| sum as f64 / rollouts as f64;
            [
                format!("{:.1}", mean(spent.turns)),
                tokens(mean(spent.tokens()).round() as u64),
                dollars(spent.cost_usd.map(|cost| cost / rollouts as f64)),
            ]
        }
        _ => [dash(), dash(), dash()],
    }
}

/// `950`, `12.3k`, `4.57M`.
pub fn tokens(tokens: u64) -> String {
    match tokens as f64 {
        count if count < 9999.5 => format!("{tokens}"),
        count if count < 999_950.0 => format!("{:.1}k", count / 1e3),
        count if count < 999_995_000.0 => format!("{:.2}M", count / 1e6),
        count => format!("{:.2}G", count / 1e9),
    }
}

/// Cents, or parts of them where there are few.
pub fn dollars(cost: Option<f64>) -> String {
    match cost {
        None => dash(),
        Some(cost) if cost == 0.0 || cost >= 0.0995 => format!("${cost:.2}"),
        Some(cost) => format!("${cost:.4}"),
    }
}

/// The share of the prompts that was read from caches.
pub fn cached(spent: &Spent) -> String {
    match spent.prompt_tokens {
        0 => dash(),
        prompt => format!("{:.0}%", 100.0 * spent.cached_tokens as f64 / prompt as f64),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_and_dollars_have_the_places_that_fit() {
        let counts = [0, 950, 9999, 10_000, 999_949, 999_950, 4_567_000, 2_500_000_000];
        let want = ["0", "950", "9999", "10.0k", "999.9k", "1.00M", "4.57M", "2.50G"];
        assert_eq!(counts.map(tokens), want);
        let costs = [None, Some(0.0), Some(0.00042), Some(0.25), Some(12.345)];
        assert_eq!(costs.map(dollars), ["–", "$0.00", "$0.0004", "$0.25", "$12.35"]);
        assert_eq!(cached(&Spent::default()), "–");
    }
}
