//! The least loaded real server for its weight, whatever a scheduler understands by load. The first of
//! equals wins.
//!
//! Few candidates are looked at one by one, over all lcores, at each choice. Among many, each lcore keeps
//! a tournament tree of its own, in memory that comes with the virtual service: the leaves are the
//! candidates, an inner node names the better of its two children, the root the best of all. When the
//! connections of a real server change on an lcore, that lcore mends its leaf and the nodes above it, in
//! as many steps as the number of candidates has bits. Nobody else reads or writes its tree.
//!
//! What the *other* lcores have of a candidate is written down in the tree, and grows old there. It is
//! looked up anew of the candidate that is about to be chosen (of the next best, should that make it a
//! worse one, and so on [`TRIES`] times), and at each choice of [`REFRESH`] more in turn. So nothing is
//! older than the last `candidates / REFRESH` choices that this lcore made in this service. With one
//! lcore there are no others, and the choice is the one that looking at all candidates would make.

use std::cmp::Ordering;
use std::sync::Arc;

use super::{Candidate, Load, lc, nq, sed, wlc};
use crate::id::LcoreId;
use crate::stats::Counter;

/// So many candidates are looked at one by one.
const FEW: usize = 16;
/// Of how many candidates a choice looks up what other lcores have, besides the chosen one.
const REFRESH: usize = 4;
/// How often the best candidate may turn out to be worse than it seemed before it is taken as it is.
const TRIES: usize = 4;

/// By what a scheduler goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Score {
    /// Overhead for its weight, as weighted least connection has it.
    Wlc,
    /// Overhead alone, as least connection has it.
    Lc,
    /// Active connections and one more for its weight, as shortest expected delay has it.
    Sed,
    /// The same, but idle ones first, as never queue has it.
    Nq,
    /// Active connections for its weight.
    Active,
}

/// How a candidate stands: the least `overhead / weight` is the best. Without weight, not available.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rating {
    pub(super) overhead: u64,
    pub(super) weight: u16,
}

impl Score {
    fn rate(self, candidate: &Candidate, load: &impl Load, (active, inactive): (u64, u64)) -> Rating {
        if !candidate.is_available(load) {
            return Rating { overhead: 0, weight: 0 };
        }
        match self {
            Score::Wlc => wlc::rate(candidate, active, inactive),
            Score::Lc => lc::rate(active, inactive),
            Score::Sed => sed::rate(candidate, active),
            Score::Nq => nq::rate(candidate, active),
            Score::Active => Rating { overhead: active, weight: candidate.weight },
        }
    }
}

/// A candidate with its rating: a node of a tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Rated {
    at: u32,
    rating: Rating,
}

impl Rating {
    /// By which two that are available compare: ours/our weight against theirs/their weight, without a
    /// division.
    fn order(self, other: Rating) -> Ordering {
        let product = |a: Rating, b: Rating| u128::from(a.overhead) * u128::from(b.weight);
        product(self, other).cmp(&product(other, self))
    }
}

impl Rated {
    fn or_better(self, other: Rated) -> Rated {
        let order = match (self.rating.weight, other.rating.weight) {
            (0, 0) => Ordering::Equal,
            (0, _) => return other,
            (_, 0) => return self,
            _ => self.rating.order(other.rating),
        };
        if order.then(self.at.cmp(&other.at)).is_le() { self } else { other }
    }

    fn available(self) -> Option<usize> {
        (self.rating.weight > 0).then_some(self.at as usize)
    }
}

/// A scheduler that looks for the least loaded.
#[derive(Debug)]
pub struct LeastLoaded {
    score: Score,
    /// Each lcore's; none where there are few candidates.
    trees: Arc<[Tree]>,
    /// Differs from those of the schedulers before that had the same trees.
    generation: u64,
}

impl LeastLoaded {
    /// Whether lcores have to tell when a real server's connections change, where there are so many.
    pub(super) fn follows_load(candidates: usize) -> bool {
        candidates > FEW
    }

    /// Takes the trees of `previous` over if they have the right size: another weight then neither
    /// allocates nor touches memory that lcores use. Each lcore fills its tree when it needs it.
    pub(super) fn build(
        score: Score,
        candidates: &[Candidate],
        previous: Option<&LeastLoaded>,
        lcores: usize,
    ) -> LeastLoaded {
        let wanted = if Self::follows_load(candidates.len()) { lcores } else { 0 };
        let fits = |p: &&LeastLoaded| {
            p.trees.len() == wanted && p.trees.iter().all(|tree| tree.len() == candidates.len())
        };
        let trees = match previous.filter(fits) {
            Some(previous) => previous.trees.clone(),
            None => (0..wanted).map(|_| Tree::new(candidates.len(), lcores > 1)).collect(),
        };
        LeastLoaded { score, trees, generation: previous.map_or(0, |p| p.generation) + 1 }
    }

    /// For one lcore alone, whose tree is not filled.
    pub(super) fn copy(&self, lcore: LcoreId) -> LeastLoaded {
        let tree = |(at, tree): (usize, &Tree)| {
            let len = if at == usize::from(lcore.0) { tree.len() } else { 0 };
            Tree::new(len, !tree.others.is_empty())
        };
        let trees = self.trees.iter().enumerate().map(tree).collect();
        LeastLoaded { score: self.score, trees, generation: self.generation }
    }

    /// Knows what `other` knows on an lcore. For that lcore: nobody else may read its tree. Costs less than to fill the
    /// tree, as after each edit of the service.
    pub(super) fn take_after(&self, other: &LeastLoaded, lcore: LcoreId) {
        let at = usize::from(lcore.0);
        if let (Some(tree), Some(from)) = (self.trees.get(at), other.trees.get(at)) {
            tree.take_after(from);
        }
    }

    pub(super) fn choose(&self, candidates: &[Candidate], load: &impl Load, lcore: LcoreId) -> Option<usize> {
        match self.tournament(candidates, load, lcore) {
            Some(tournament) => tournament.choose(),
            None => one_by_one(self.score, candidates, load),
        }
    }

    /// The connections of a candidate have changed on this lcore.
    pub(super) fn load_changed(&self, candidates: &[Candidate], at: usize, load: &impl Load, lcore: LcoreId) {
        if let Some(tournament) = self.tournament(candidates, load, lcore)
            // Otherwise the tree is filled before anybody looks at it.
            && tournament.is_filled()
            && at < candidates.len()
        {
            tournament.mend(at);
        }
    }

    fn tournament<'a, L: Load>(
        &'a self,
        candidates: &'a [Candidate],
        load: &'a L,
        lcore: LcoreId,
    ) -> Option<Tournament<'a, L>> {
        let tree = self.trees.get(usize::from(lcore.0))?;
        Some(Tournament { tree, candidates, load, lcore, score: self.score, generation: self.generation })
    }
}

/// The best of all candidates by what all lcores have of each.
fn one_by_one(score: Score, candidates: &[Candidate], load: &impl Load) -> Option<usize> {
    let mut best: Option<(usize, Rating)> = None;
    for (at, candidate) in candidates.iter().enumerate().filter(|(_, candidate)| candidate.is_available(load))
    {
        let rating = score.rate(candidate, load, load.connections(candidate.server));
        if best.is_none_or(|(_, best)| rating.order(best).is_lt()) {
            best = Some((at, rating));
        }
    }
    best.map(|(at, _)| at)
}

/// One lcore's tree. On cache lines of its own as far as it is written often.
#[derive(Debug)]
#[repr(align(64))]
struct Tree {
    /// The generation it was filled for.
    filled: Counter,
    /// The candidate that is refreshed next.
    next: Counter,
    /// The root is node 1, the children of node n are 2n and 2n + 1, the leaves are the second half.
    nodes: Box<[Node]>,
    /// Active and inactive connections of each candidate on other lcores; empty where there are none.
    others: Box<[(Counter, Counter)]>,
}

/// A [`Rated`] that its lcore can write. Two children share a cache line.
#[derive(Debug, Default)]
#[repr(align(16))]
struct Node {
    overhead: Counter,
    /// The candidate, then 16 bits of weight.
    who: Counter,
}

impl Node {
    fn get(&self) -> Rated {
        let who = self.who.get();
        let rating = Rating { overhead: self.overhead.get(), weight: who as u16 };
        Rated { at: (who >> 16) as u32, rating }
    }

    fn set(&self, Rated { at, rating }: Rated) {
        self.overhead.set(rating.overhead);
        self.who.set(u64::from(at) << 16 | u64::from(rating.weight));
    }
}

impl Tree {
    fn new(candidates: usize, with_others: bool) -> Tree {
        let tree = Tree {
            filled: Counter::default(),
            next: Counter::default(),
            nodes: (0..2 * candidates).map(|_| Node::default()).collect(),
            others: (0..if with_others { candidates } else { 0 }).map(|_| Default::default()).collect(),
        };
        // Touched here, so that no lcore meets a page fault.
        let nobody = Rated { at: u32::MAX, rating: Rating { overhead: 0, weight: 0 } };
        tree.nodes.iter().for_each(|node| node.set(nobody));
        tree.others.iter().for_each(|(active, inactive)| {
            active.set(u64::MAX);
            inactive.set(u64::MAX);
        });
        tree
    }

    /// How many candidates it has.
    fn len(&self) -> usize {
        self.nodes.len() / 2
    }

    /// Is what a tree of the same length is.
    fn take_after(&self, other: &Tree) {
        self.filled.set(other.filled.get());
        self.next.set(other.next.get());
        self.nodes.iter().zip(&other.nodes).for_each(|(node, from)| node.set(from.get()));
        for ((active, inactive), from) in self.others.iter().zip(&other.others) {
            active.set(from.0.get());
            inactive.set(from.1.get());
        }
    }
}

/// A tree at work, with all that its nodes are made from. At least two candidates.
struct Tournament<'a, L> {
    tree: &'a Tree,
    candidates: &'a [Candidate],
    load: &'a L,
    lcore: LcoreId,
    score: Score,
    generation: u64,
}

impl<L: Load> Tournament<'_, L> {
    fn is_filled(&self) -> bool {
        self.tree.filled.get() == self.generation
    }

    fn choose(&self) -> Option<usize> {
        if !self.is_filled() {
            self.fill();
            return self.best();
        }
        if self.tree.others.is_empty() {
            return self.best().or_else(|| self.revive());
        }
        for _ in 0..REFRESH {
            let at = self.tree.next.get() as usize;
            self.tree.next.set(if at + 1 < self.candidates.len() { at as u64 + 1 } else { 0 });
            self.refresh(at);
        }
        for _ in 0..TRIES {
            let Some(best) = self.best() else { break };
            if !self.refresh(best) {
                return Some(best);
            }
        }
        self.best().or_else(|| self.revive())
    }

    /// Nobody seemed available. Somebody may be again, as another lcore has found.
    #[cold]
    fn revive(&self) -> Option<usize> {
        if !self.candidates.iter().any(|candidate| candidate.is_available(self.load)) {
            return None;
        }
        self.fill();
        self.best()
    }

    fn best(&self) -> Option<usize> {
        self.tree.nodes[1].get().available()
    }

    /// Makes the whole tree from what all lcores have now. After an edit of the service this is once as
    /// much as looking at every candidate.
    fn fill(&self) {
        let nodes = &self.tree.nodes;
        for at in 0..self.candidates.len() {
            self.look_up_others(at);
            nodes[self.candidates.len() + at].set(self.rate(at));
        }
        for n in (1..self.candidates.len()).rev() {
            nodes[n].set(nodes[2 * n].get().or_better(nodes[2 * n + 1].get()));
        }
        self.tree.filled.set(self.generation);
    }

    /// How a candidate stands by what this lcore has of it and what is known of others.
    fn rate(&self, at: usize) -> Rated {
        let candidate = &self.candidates[at];
        let (active, inactive) = self.load.connections_on(self.lcore, candidate.server);
        let (others_active, others_inactive) = match self.tree.others.get(at) {
            Some((active, inactive)) => (active.get(), inactive.get()),
            None => (0, 0),
        };
        let all = (active.wrapping_add(others_active), inactive.wrapping_add(others_inactive));
        Rated { at: at as u32, rating: self.score.rate(candidate, self.load, all) }
    }

    /// Mends a leaf and the nodes above it, up to the first that stays as it was. True when the leaf was not
    /// as it is now.
    fn mend(&self, at: usize) -> bool {
        let nodes = &self.tree.nodes;
        let mut n = self.candidates.len() + at;
        let mut rated = self.rate(at);
        let news = nodes[n].get() != rated;
        while nodes[n].get() != rated {
            nodes[n].set(rated);
            n /= 2;
            if n == 0 {
                break;
            }
            rated = nodes[2 * n].get().or_better(nodes[2 * n + 1].get());
        }
        news
    }

    /// Looks up what other lcores have of a candidate, and whether they have found it overloaded. True when it
    /// stands differently for that.
    fn refresh(&self, at: usize) -> bool {
        self.look_up_others(at);
        self.mend(at)
    }

    fn look_up_others(&self, at: usize) {
        let Some((active, inactive)) = self.tree.others.get(at) else { return };
        let server = self.candidates[at].server;
        let (all, own) = (self.load.connections(server), self.load.connections_on(self.lcore, server));
        let now = (all.0.wrapping_sub(own.0), all.1.wrapping_sub(own.1));
        active.set(now.0);
        inactive.set(now.1);
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{candidates, oracle};
    use super::*;
    use crate::service::ServerId;
    use crate::stats::{Fleet, LcoreCounters};
    use proptest::prelude::*;

    const ME: LcoreId = LcoreId(0);

    fn fleet(lcores: usize) -> Fleet {
        Fleet::new((0..lcores).map(|_| Arc::new(LcoreCounters::new(100))).collect())
    }

    #[derive(Clone, Debug)]
    enum Step {
        /// A connection is scheduled, and made unless the table is full.
        Open(bool),
        /// One of the connections, active or not, changes sides.
        Turn(usize),
        /// One of them ends.
        End(usize),
        /// Another lcore's load of a real server.
        Other(usize, u64, u64),
        /// The operator has other weights.
        Edit(Vec<u16>),
    }

    fn weights() -> impl Strategy<Value = Vec<u16>> {
        let weight = || prop_oneof![1 => Just(0), 4 => 1u16..4, 1 => any::<u16>()];
        let of_size = |size| proptest::collection::vec(weight(), size);
        // Often just where trees begin.
        prop_oneof![of_size(0..40), of_size(16..18)]
    }

    fn step(others: bool) -> impl Strategy<Value = Step> {
        prop_oneof![
            12 => any::<bool>().prop_map(Step::Open),
            4 => any::<usize>().prop_map(Step::Turn),
            4 => any::<usize>().prop_map(Step::End),
            if others { 8 } else { 0 } => (0usize..40, 0u64..5, 0u64..600).prop_map(|(n, a, i)| Step::Other(n, a, i)),
            1 => weights().prop_map(Step::Edit),
        ]
    }

    /// An lcore, and what it does.
    struct World {
        fleet: Fleet,
        candidates: Vec<Candidate>,
        wlc: LeastLoaded,
        connections: Vec<(ServerId, bool)>,
    }

    impl World {
        fn new(weights: &[u16], lcores: usize) -> World {
            let (candidates, fleet) = (candidates(weights), fleet(lcores));
            let wlc = LeastLoaded::build(Score::Wlc, &candidates, None, lcores);
            World { fleet, candidates, wlc, connections: Vec::new() }
        }

        fn choose(&self) -> Option<usize> {
            self.wlc.choose(&self.candidates, &self.fleet, ME)
        }

        fn count(&self, (server, active): (ServerId, bool), n: u64) {
            let counters = self.fleet.lcores()[0].server(server);
            let counter = if active { &counters.active } else { &counters.inactive };
            counter.add(n);
            // A real server that was removed is no candidate; its connections end all the same.
            if let Some(at) = self.candidates.iter().position(|c| c.server == server) {
                self.wlc.load_changed(&self.candidates, at, &self.fleet, ME);
            }
        }

        /// Does a step; what was chosen, and what should have been.
        fn step(&mut self, step: Step) -> Option<[Option<usize>; 2]> {
            let len = self.connections.len().max(1);
            match step {
                Step::Open(made) => {
                    let best = oracle(&self.candidates, &self.fleet);
                    let chosen = self.choose();
                    if let Some(at) = chosen.filter(|_| made) {
                        let connection = (self.candidates[at].server, true);
                        self.connections.push(connection);
                        self.count(connection, 1);
                    }
                    return Some([chosen, best]);
                }
                Step::Turn(n) => {
                    if let Some((server, active)) = self.connections.get(n % len).copied() {
                        self.count((server, active), u64::MAX);
                        self.count((server, !active), 1);
                        self.connections[n % len].1 = !active;
                    }
                }
                Step::End(n) => {
                    if n % len < self.connections.len() {
                        let gone = self.connections.swap_remove(n % len);
                        self.count(gone, u64::MAX);
                    }
                }
                Step::Other(n, active, inactive) => {
                    let counters = self.fleet.lcores()[1].server(ServerId(n as u32));
                    counters.active.set(active);
                    counters.inactive.set(inactive);
                }
                Step::Edit(weights) => {
                    let lcores = self.fleet.lcores().len();
                    self.candidates = candidates(&weights);
                    self.wlc = LeastLoaded::build(Score::Wlc, &self.candidates, Some(&self.wlc), lcores);
                }
            }
            None
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1024))]

        /// With one lcore, whatever happens, the choice is that of looking at all candidates.
        #[test]
        fn one_lcore_chooses_as_the_definition_says(
            weights in weights(),
            steps in proptest::collection::vec(step(false), 0..200),
        ) {
            let mut world = World::new(&weights, 1);
            for step in steps {
                if let Some([chosen, best]) = world.step(step) {
                    prop_assert_eq!(chosen, best);
                }
            }
        }

        /// With several, a choice is somebody available, and what others have is known after so many
        /// choices as the module says.
        #[test]
        fn what_others_have_is_known_in_time(
            weights in weights(),
            steps in proptest::collection::vec(step(true), 0..200),
        ) {
            let mut world = World::new(&weights, 3);
            for step in steps {
                if let Some([chosen, best]) = world.step(step) {
                    prop_assert_eq!(chosen.is_some(), best.is_some());
                    prop_assert!(chosen.is_none_or(|at| world.candidates[at].is_available(&world.fleet)));
                }
            }
            for _ in 0..world.candidates.len().div_ceil(REFRESH) {
                world.choose();
            }
            prop_assert_eq!(world.choose(), oracle(&world.candidates, &world.fleet));
        }
    }

    #[test]
    fn another_lcores_connections_count_for_whoever_is_about_to_be_chosen() {
        let mut world = World::new(&[1; 40], 2);
        // The first choice fills the tree, the second looks at those whose turn it is: 0 to 3.
        assert_eq!([world.choose(), world.choose()], [Some(0); 2]);
        world.step(Step::Other(0, 1, 0));
        world.step(Step::Other(1, 1, 0));
        assert_eq!(world.choose(), Some(2));
    }

    #[test]
    fn trees_outlive_an_edit_of_weights() {
        let many = candidates(&[1; 40]);
        let before = LeastLoaded::build(Score::Wlc, &many, None, 2);
        let after = LeastLoaded::build(Score::Wlc, &candidates(&[2; 40]), Some(&before), 2);
        assert!(Arc::ptr_eq(&before.trees, &after.trees));
        assert_ne!(before.generation, after.generation);
        let other = LeastLoaded::build(Score::Wlc, &candidates(&[2; 41]), Some(&after), 2);
        assert_eq!(other.trees.iter().map(Tree::len).collect::<Vec<_>>(), [41, 41]);
        assert!(LeastLoaded::build(Score::Wlc, &many[..FEW], Some(&other), 2).trees.is_empty());
    }
}
