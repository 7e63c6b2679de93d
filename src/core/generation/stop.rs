//! Stop strings, wherever the tokens are cut.

/// Looks for the first stop string in a text that comes in pieces, and keeps back what may be the beginning of one.
#[derive(Clone, Debug, Default)]
pub(super) struct StopStrings {
    held: String,
}

impl StopStrings {
    /// What of the text so far may be shown now that `piece` was added, and the number of the stop string that ended it.
    pub fn push(&mut self, stops: &[String], piece: &str) -> (String, Option<usize>) {
        self.held.push_str(piece);
        let found = stops.iter().enumerate().filter_map(|(n, s)| self.held.find(s.as_str()).map(|at| (at, n)));
        if let Some((at, n)) = found.min() {
            let before = self.held[..at].to_owned();
            self.held.clear();
            return (before, Some(n));
        }
        let keep = stops.iter().map(|s| self.begun(s)).max().unwrap_or(0);
        let rest = self.held.split_off(self.held.len() - keep);
        (std::mem::replace(&mut self.held, rest), None)
    }

    /// What was kept back: no stop string will come of it.
    pub fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }

    /// Bytes at the end that begin `stop`.
    fn begun(&self, stop: &str) -> usize {
        let starts = stop.char_indices().map(|(at, _)| at).skip(1);
        starts.filter(|n| self.held.ends_with(&stop[..*n])).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::StopStrings;

    fn shown(stops: &[&str], pieces: &[&str]) -> (Vec<String>, Option<usize>) {
        let stops: Vec<String> = stops.iter().map(|s| (*s).to_owned()).collect();
        let (mut out, mut state) = (Vec::new(), StopStrings::default());
        for piece in pieces {
            let (text, stop) = state.push(&stops, piece);
            out.push(text);
            if stop.is_some() {
                return (out, stop);
            }
        }
        out.push(state.finish());
        (out, None)
    }

    #[test]
    fn a_stop_string_across_pieces_is_found_and_never_shown() {
        assert_eq!(shown(&["END"], &["a E", "N", "D b"]), (vec!["a ".into(), String::new(), String::new()], Some(0)));
    }

    #[test]
    fn a_beginning_that_comes_to_nothing_is_shown() {
        assert_eq!(shown(&["END"], &["a E", "Nx", "E"]).0, ["a ", "ENx", "", "E"]);
        assert_eq!(shown(&["aab"], &["aaa", "b"]), (vec!["a".into(), String::new()], Some(0)));
    }

    #[test]
    fn the_earliest_of_several_wins() {
        assert_eq!(shown(&["long stop", "stop"], &["a long stop"]), (vec!["a ".into()], Some(0)));
        assert_eq!(shown(&["日本", "本"], &["x日", "本"]), (vec!["x".into(), String::new()], Some(0)));
    }
}
