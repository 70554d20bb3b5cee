//! Whom we distrust: the policy file and its verdicts.
#![no_std]
#![forbid(unsafe_code)]
