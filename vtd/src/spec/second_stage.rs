//! Entries of second-stage tables (section 9.8), 64 bits each.

use bitfield::bitfield;

use super::bits;

bitfield! {
    /// An entry of any level; with both R and W clear it is not present.
    #[derive(Clone, Copy, PartialEq, Eq)]
    pub struct Entry(pub u64);
    impl Debug;
    /// Reads pass.
    pub r, set_r: 0;
    /// Writes pass.
    pub w, set_w: 1;
    /// Page size: this entry maps a 2 MiB or 1 GiB page instead of naming a table.
    pub ps, set_ps: 7;
    /// Snoop behaviour of a leaf; reserved where ECAP.SC is clear.
    pub snp, set_snp: 11;
    /// Page number of the page or the next table.
    pub u64, address, set_address: 51, 12;
    /// Transient mapping of a leaf, for device TLBs.
    pub tm, set_tm: 62;
}

bits!(Entry: u64);
