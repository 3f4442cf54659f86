//! What tokens cost.

use super::Usage;
use super::settings::Price;

impl Price {
    /// US dollars for these tokens. Reasoning is output, as every endpoint counts it.
    pub fn of(&self, usage: &Usage) -> f64 {
        let cached = usage.cached_tokens.min(usage.prompt_tokens);
        let fresh = usage.prompt_tokens - cached;
        let cost = |tokens: u64, price: f64| tokens as f64 * price;
        let millionths = cost(fresh, self.input)
            + cost(cached, self.cached_input)
            + cost(usage.completion_tokens, self.output);
        millionths / 1e6
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRICE: Price = Price { input: 3.0, cached_input: 0.3, output: 15.0 };

    #[test]
    fn tokens_from_a_cache_cost_their_own_price() {
        let usage =
            Usage { prompt_tokens: 1_000_000, completion_tokens: 200_000, cached_tokens: 900_000 };
        let dollars = PRICE.of(&usage);
        assert!((dollars - (0.3 + 0.27 + 3.0)).abs() < 1e-9, "{dollars}");
        assert_eq!(PRICE.of(&Usage::default()), 0.0);
    }

    #[test]
    fn an_endpoint_that_counts_more_cached_than_prompt_costs_no_less_than_nothing() {
        let usage = Usage { prompt_tokens: 10, completion_tokens: 0, cached_tokens: 20 };
        assert!((PRICE.of(&usage) - 3e-6).abs() < 1e-15);
    }
}
