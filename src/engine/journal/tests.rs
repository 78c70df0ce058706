//! Tests of the module `journal`.

use proptest::prelude::*;
use serde::Deserialize;

use super::*;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Said {
    Exited { process: u32, code: i32 },
    Ready(bool),
}

fn journal() -> Journal<Said> {
    let header = Header {
        scenario: 1 << 100,
        seed: 42,
        metadata: b"host: here".to_vec(),
    };
    let mut journal = Journal::new(header);
    journal.heard(Time::from_millis(3), 0, Said::Ready(true));
    journal.heard(
        Time::from_millis(2),
        0,
        Said::Exited {
            process: 7,
            code: -9,
        },
    );
    journal.heard(Time::from_secs(90), 1_000, Said::Ready(false));
    journal.close(Closing {
        at: Time::from_secs(100),
        dispatched: 1_234,
        digest: 77,
    });
    journal
}

#[test]
fn a_journal_reads_back_as_written() {
    let bytes = journal().encode().unwrap();
    assert_eq!(Journal::decode(&bytes), Ok(journal()));
    let mut open = journal();
    open.closing = None;
    assert_eq!(Journal::decode(&open.encode().unwrap()), Ok(open));
}

#[test]
fn the_format_never_changes_under_one_version() {
    // Journals are kept: a change here needs a new FORMAT.
    let bytes = journal().encode().unwrap();
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let golden = [
        // magic, format
        "896a6f75726e616c01000000",
        // scenario, seed, metadata
        "8080808080808080808080808080042a0a686f73743a2068657265",
        // three entries: instant, after, event
        "03c08db70100010180897a000007118088aca3cf02e8070100",
        // closing: instant, events, digest
        "0180d0dbc3f402d2094d",
        // digest of all that
        "02e5e28f31317bdb8133b7e1ffc18d5e",
    ];
    assert_eq!(hex, golden.concat());
}

#[test]
fn a_journal_cut_anywhere_is_an_error() {
    let bytes = journal().encode().unwrap();
    for length in 0..bytes.len() {
        let expected = if length < FRAME {
            JournalError::NotAJournal
        } else {
            JournalError::Corrupt
        };
        assert_eq!(
            Journal::<Said>::decode(&bytes[..length]),
            Err(expected),
            "{length} bytes"
        );
    }
}

#[test]
fn any_flipped_bit_is_an_error() {
    let bytes = journal().encode().unwrap();
    for bit in 0..bytes.len() * 8 {
        let mut other = bytes.clone();
        other[bit / 8] ^= 1 << (bit % 8);
        let error = Journal::<Said>::decode(&other).expect_err("a flipped bit");
        let expected = match bit / 8 {
            0..8 => matches!(error, JournalError::NotAJournal),
            8..12 => matches!(error, JournalError::Format(_)),
            _ => error == JournalError::Corrupt,
        };
        assert!(expected, "bit {bit}: {error}");
    }
}

#[test]
fn intact_bytes_of_other_events_are_an_error() {
    let bytes = journal().encode().unwrap();
    assert!(matches!(
        Journal::<bool>::decode(&bytes),
        Err(JournalError::Content(_))
    ));
    let mut backwards = journal();
    backwards.entries.reverse();
    let error = Journal::<Said>::decode(&backwards.encode().unwrap()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the journal's content is not understood: entries are out of order"
    );
}

#[test]
fn playback_gives_each_entry_when_its_turn_has_come() {
    let journal = journal();
    let mut playback = journal.playback();
    assert_eq!(playback.next_after(), Some(0));
    assert_eq!(
        playback.take(0).map(|entry| entry.event),
        Some(Said::Ready(true))
    );
    assert_eq!(
        playback.take(0).map(|entry| entry.at),
        Some(Time::from_millis(2))
    );
    assert_eq!(playback.take(999), None);
    assert_eq!(
        (playback.next_after(), playback.remaining()),
        (Some(1_000), 1)
    );
    assert!(playback.take(1_000).is_some());
    assert_eq!(playback.next_after(), None);
}

#[test]
#[should_panic(expected = "heard after 1000 events, then after 3")]
fn the_order_of_hearing_is_kept() {
    let mut journal = journal();
    journal.closing = None;
    journal.heard(Time::from_secs(1), 3, Said::Ready(true));
}

proptest! {
    #[test]
    fn no_bytes_make_decoding_panic(body in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Journal::<Said>::decode(&body);
        // The same bytes in an intact frame reach the inner decoder.
        let mut framed = MAGIC.to_vec();
        framed.extend(FORMAT.to_le_bytes());
        framed.extend(body);
        framed.extend(digest_of(&framed).to_le_bytes());
        let _ = Journal::<Said>::decode(&framed);
    }
}
