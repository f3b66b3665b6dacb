//! Class tx: transactions (spec §1.9).

method! {
    /// Makes the channel transactional (spec §1.9.2.1).
    Select(90, 10, "tx.select")[]
}

method! {
    /// The channel is transactional (spec §1.9.2.2).
    SelectOk(90, 11, "tx.select-ok")[server]
}

method! {
    /// Does what the transaction holds (spec §1.9.2.3).
    Commit(90, 20, "tx.commit")[]
}

method! {
    /// It is done (spec §1.9.2.4).
    CommitOk(90, 21, "tx.commit-ok")[server]
}

method! {
    /// Forgets what the transaction holds (spec §1.9.2.5).
    Rollback(90, 30, "tx.rollback")[]
}

method! {
    /// It is forgotten (spec §1.9.2.6).
    RollbackOk(90, 31, "tx.rollback-ok")[server]
}
