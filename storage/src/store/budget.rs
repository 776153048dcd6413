//! How often a store may be asked more than its callers asked: token buckets that requests fill and extra requests
//! empty. Pure.

/// Whole tokens are counted in thousandths, so that shares of one need no floating point.
const TOKEN: u64 = 1_000;

/// A bucket of tokens that only traffic refills. Time does not: a store that is down gets no trickle of repetitions on
/// top of its callers' own attempts.
#[derive(Debug)]
pub(super) struct Budget {
    level: u64,
    most: u64,
    earned: u64,
}

impl Budget {
    /// Starts full with `most` tokens; each deposit earns `thousandths` of one.
    pub(super) fn new(most: u32, thousandths: u64) -> Self {
        let most = u64::from(most) * TOKEN;
        Self { level: most, most, earned: thousandths }
    }

    pub(super) fn deposit(&mut self) {
        self.level = (self.level + self.earned).min(self.most);
    }

    /// Takes a token if there is one.
    pub(super) fn withdraw(&mut self) -> bool {
        let enough = self.level >= TOKEN;
        if enough {
            self.level -= TOKEN;
        }
        enough
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_spent_comes_back_only_as_a_share_of_what_is_deposited() {
        let mut budget = Budget::new(3, 100);
        assert_eq!((0..10).filter(|_| budget.withdraw()).count(), 3);
        (0..9).for_each(|_| budget.deposit());
        assert!(!budget.withdraw());
        budget.deposit();
        assert!(budget.withdraw() && !budget.withdraw());
        (0..1_000).for_each(|_| budget.deposit());
        assert_eq!((0..10).filter(|_| budget.withdraw()).count(), 3, "it never holds more");
    }

    #[test]
    fn an_empty_budget_allows_nothing() {
        let mut budget = Budget::new(0, 100);
        (0..100).for_each(|_| budget.deposit());
        assert!(!budget.withdraw());
    }
}
