//! Keeps of a line what can be seen of it.
//!
//! Of all points in a narrow bin of the axis the first, the last, the lowest and the highest make
//! the same picture as all of them: this is M4 (U. Jugel, Z. Jerzak, G. Hackenbroich, V. Markl:
//! "M4: A Visualization-Oriented Time Series Data Aggregation", VLDB 2014). The axis is not known
//! before the end, so bins become twice as wide, by pairs, when there are too many; they are still
//! far more than a picture has columns. Points may come in any order.

use std::collections::BTreeMap;

/// The most bins, and the most points that are kept as they are.
const BINS_MAX: usize = 8192;

/// The points of a line.
#[derive(Default)]
pub(super) struct Reduced {
    /// Those that came since the last bins were made; all, if there are no bins.
    points: Vec<(f64, f64)>,
    width: f64,
    bins: BTreeMap<i64, Bin>,
}

struct Bin {
    first: (f64, f64),
    last: (f64, f64),
    low: (f64, f64),
    high: (f64, f64),
}

impl Reduced {
    /// Adds a point; both numbers are finite.
    pub(super) fn push(&mut self, x: f64, y: f64) {
        self.points.push((x, y));
        if self.points.len() > BINS_MAX {
            self.settle();
        }
    }

    /// Returns what was kept, by `x`.
    pub(super) fn points(mut self) -> Vec<(f64, f64)> {
        let mut points = self.points;
        if !self.bins.is_empty() {
            self.points = Vec::new();
            let mut all = Self { points, ..self };
            all.settle();
            points = Vec::with_capacity(all.bins.len() * 4);
            for Bin { first, last, low, high } in all.bins.into_values() {
                points.extend([first, low, high, last]);
            }
        }
        // Stable: of points at the same place the first stays the first.
        points.sort_by(|(one, _), (other, _)| one.total_cmp(other));
        points.dedup();
        points
    }

    /// Puts the points into bins.
    fn settle(&mut self) {
        let points = std::mem::take(&mut self.points);
        if self.bins.is_empty() {
            let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
            for (x, _) in &points {
                (low, high) = (low.min(*x), high.max(*x));
            }
            // No narrower than numbers of that size can be told apart.
            let width = (high - low).max(low.abs().max(high.abs()) * f64::EPSILON);
            self.width = (width / BINS_MAX as f64 * 2.0).max(f64::MIN_POSITIVE);
        }
        for (x, y) in points {
            let point = (x, y);
            let bin = Bin { first: point, last: point, low: point, high: point };
            // Farther than can be counted: the bins become wide enough.
            while (x / self.width).abs() > 1e15 {
                self.widen();
            }
            self.add((x / self.width).floor() as i64, bin);
            while self.bins.len() > BINS_MAX {
                self.widen();
            }
        }
    }

    fn widen(&mut self) {
        self.width *= 2.0;
        for (at, bin) in std::mem::take(&mut self.bins) {
            self.add(at.div_euclid(2), bin);
        }
    }

    fn add(&mut self, at: i64, bin: Bin) {
        let Some(kept) = self.bins.get_mut(&at) else {
            self.bins.insert(at, bin);
            return;
        };
        if bin.first.0 < kept.first.0 {
            kept.first = bin.first;
        }
        if bin.last.0 >= kept.last.0 {
            kept.last = bin.last;
        }
        if bin.low.1 < kept.low.1 {
            kept.low = bin.low;
        }
        if bin.high.1 > kept.high.1 {
            kept.high = bin.high;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_points_stay_as_they_are() {
        let mut line = Reduced::default();
        for point in [(3.0, 1.0), (1.0, 2.0), (2.0, 5.0), (1.0, 2.0)] {
            line.push(point.0, point.1);
        }
        assert_eq!(line.points(), [(1.0, 2.0), (2.0, 5.0), (3.0, 1.0)]);
    }

    #[test]
    fn ends_and_peaks_stay_of_many_in_any_order() {
        for (base, step) in [(0.0, 1.0), (1.7e9, 1e-3), (-5e300, 1e290), (1e-300, 1e-303)] {
            for is_reversed in [false, true] {
                let mut line = Reduced::default();
                for number in 0..200_000 {
                    let number = if is_reversed { 199_999 - number } else { number };
                    let y = match number {
                        77_777 => 1e9,
                        123_456 => -1e9,
                        number => (number % 100) as f64,
                    };
                    line.push(base + number as f64 * step, y);
                    assert!(line.bins.len() <= BINS_MAX && line.points.len() <= BINS_MAX);
                }
                let points = line.points();
                assert!((1000..=4 * BINS_MAX).contains(&points.len()), "{}", points.len());
                assert!(points.is_sorted_by(|one, other| one.0 <= other.0));
                assert_eq!(points[0].0, base);
                assert_eq!(points[points.len() - 1].0, base + 199_999.0 * step);
                let peak = |y: f64| points.iter().find(|point| point.1 == y).unwrap().0;
                assert_eq!(peak(1e9), base + 77_777.0 * step);
                assert_eq!(peak(-1e9), base + 123_456.0 * step);
            }
        }
    }
}
