//! Octets on their way to the journal, which begin at a multiple of [`PAGE`] in memory: direct I/O takes no others.

use super::PAGE;

/// What was appended, behind as much as it takes to begin at a boundary.
#[derive(Debug, Default)]
pub(super) struct Stage {
    padded: Vec<u8>,
    pad: usize,
}

/// Octets up to the next boundary in memory.
fn pad_of(octets: &[u8]) -> usize {
    octets.as_ptr().align_offset(PAGE)
}

impl Stage {
    /// Has `write` append to the octets.
    pub(super) fn append(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        write(&mut self.padded);
        self.align();
    }

    /// Puts the octets at a boundary again if they moved in memory.
    fn align(&mut self) {
        let mut pad = pad_of(&self.padded);
        if pad == self.pad {
            return;
        }
        let len = self.len();
        if self.padded.capacity() < pad + len {
            self.padded.reserve(len + PAGE);
            pad = pad_of(&self.padded);
        }
        self.padded.resize(self.padded.len().max(pad + len), 0);
        self.padded.copy_within(self.pad..self.pad + len, pad);
        self.padded.truncate(pad + len);
        self.pad = pad;
    }

    pub(super) fn len(&self) -> usize {
        self.padded.len() - self.pad
    }

    pub(super) fn capacity(&self) -> usize {
        self.padded.capacity()
    }

    pub(super) fn octets(&self) -> &[u8] {
        &self.padded[self.pad..]
    }

    pub(super) fn octets_mut(&mut self) -> &mut [u8] {
        &mut self.padded[self.pad..]
    }

    /// Forgets the first octets.
    pub(super) fn drop_front(&mut self, count: usize) {
        let start = self.pad;
        self.padded.copy_within(start + count.., start);
        self.padded.truncate(self.padded.len() - count);
    }

    pub(super) fn clear(&mut self) {
        self.padded.truncate(self.pad);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn octets_stay_what_they_are_and_at_a_boundary_as_they_grow_and_go() {
        let mut stage = Stage::default();
        let mut expected: Vec<u8> = Vec::new();
        for round in 0..300_usize {
            let more = vec![u8::try_from(round % 256).expect("small"); round * 7];
            stage.append(|out| out.extend_from_slice(&more));
            expected.extend_from_slice(&more);
            if round % 5 == 4 {
                let gone = expected.len() / 3;
                stage.drop_front(gone);
                expected.drain(..gone);
            }
            assert_eq!((stage.octets(), stage.len()), (expected.as_slice(), expected.len()));
            assert_eq!(pad_of(stage.octets()), 0, "{round}");
        }
        stage.clear();
        assert!(stage.octets().is_empty());
        stage.append(|out| out.push(9));
        assert_eq!(stage.octets(), [9]);
    }
}
