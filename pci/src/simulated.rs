//! A small machine's configuration space, for tests: real routing, real registers, no mercy.
//!
//! Owns functions with writable masks, bridges that route by whatever numbers they hold, base
//! address registers that size themselves, and resets. It knows nothing of the model under test.

extern crate std;

use core::cell::Cell;
use std::vec;
use std::vec::Vec;

use memory::{ByteRange, Hpa};

use crate::config::{ConfigSpace, Register};
use crate::{Address, Bdf, Ports};

/// Functions of the machine, by index.
pub(crate) const HOST: usize = 0;
pub(crate) const PORT: usize = 1;
pub(crate) const EXTERNAL: usize = 2;
pub(crate) const TO_PCI: usize = 3;
pub(crate) const NVME: usize = 4;
pub(crate) const EDU: usize = 5;
pub(crate) const OLD: usize = 6;
pub(crate) const NIC: usize = 7;

#[derive(Clone)]
pub(crate) struct Simulated {
    pub(crate) parent: Option<usize>,
    pub(crate) devfn: u8,
    pub(crate) bytes: Vec<u8>,
    pub(crate) writable: Vec<u8>,
    clear: Vec<u8>,
    pub(crate) bars: Vec<(u16, u64, bool)>,
    pub(crate) port_bars: Vec<(u16, u32)>,
    pub(crate) is_there: bool,
    /// It promises resets and does nothing.
    pub(crate) is_stubborn: bool,
}

impl Simulated {
    fn new(parent: Option<usize>, device: u8, vendor: u16, id: u16, class: u32) -> Self {
        let mut function = Self {
            parent,
            devfn: device << 3,
            bytes: vec![0; 4096],
            writable: vec![0; 4096],
            clear: vec![0; 4096],
            bars: Vec::new(),
            port_bars: Vec::new(),
            is_there: true,
            is_stubborn: false,
        };
        function.set16(0, vendor);
        function.set16(2, id);
        function.set32(8, class << 8);
        function.allow16(4, 0x0547);
        function.clear[7] = 0xf9;
        function.allow32(0x3c, 0xff);
        function
    }

    fn bridge(mut self, primary: u8, secondary: u8, subordinate: u8) -> Self {
        self.bytes[0xe] = 1;
        self.set32(
            0x18,
            u32::from_le_bytes([primary, secondary, subordinate, 0]),
        );
        self.allow32(0x18, 0x00ff_ffff);
        self.set16(0x1c, 0x01f1);
        self.allow16(0x1c, 0xf0f0);
        self.allow32(0x30, u32::MAX);
        self.allow32(0x20, 0xfff0_fff0);
        self.allow32(0x24, 0xfff0_fff0);
        self.set32(0x24, 0x0001_0001);
        self.allow32(0x28, u32::MAX);
        self.allow32(0x2c, u32::MAX);
        self.allow16(0x3e, 0x0fff);
        self
    }

    fn windows(mut self, memory: u32, prefetchable: u32, upper: u32) -> Self {
        self.set32(0x20, memory);
        self.set32(0x24, prefetchable | 0x0001_0001);
        self.set32(0x28, upper);
        self.set32(0x2c, upper);
        self
    }

    fn bar(mut self, offset: u16, address: u64, size: u64, is_wide: bool) -> Self {
        self.set32(offset, address as u32 | if is_wide { 0xc } else { 0 });
        let mask = !(size - 1);
        self.allow32(offset, mask as u32 & !0xf);
        if is_wide {
            self.set32(offset + 4, (address >> 32) as u32);
            self.allow32(offset + 4, (mask >> 32) as u32);
        }
        self.bars.push((offset, size, is_wide));
        self
    }

    fn port_bar(mut self, offset: u16, first: u32, count: u32) -> Self {
        self.set32(offset, first | 1);
        self.allow32(offset, !(count - 1) & !3);
        self.port_bars.push((offset, count));
        self
    }

    fn rom(mut self, size: u64) -> Self {
        self.allow32(0x30, !(size as u32 - 1) | 1);
        self.bars.push((0x30, size, false));
        self
    }

    /// Adds capabilities, each an id and its bytes from the third on.
    fn capabilities(mut self, list: &[(u8, u8, &[u8])]) -> Self {
        self.bytes[6] = 0x10;
        let mut link = 0x34;
        for (offset, id, body) in list {
            let start = usize::from(*offset);
            self.bytes[link] = *offset;
            self.bytes[start] = *id;
            self.bytes[start + 2..][..body.len()].copy_from_slice(body);
            link = start + 1;
        }
        self
    }

    fn extended(mut self, list: &[(u16, u16, u16)]) -> Self {
        for (index, &(offset, id, _)) in list.iter().enumerate() {
            let next = list.get(index + 1).map_or(0, |&(offset, ..)| offset);
            self.set32(offset, u32::from(next) << 20 | 1 << 16 | u32::from(id));
        }
        for &(offset, id, capability) in list {
            self.set16(offset + 4, capability);
            let control = if id == 0x10 { 8 } else { 6 };
            self.allow16(offset + control, 0xffff);
            if id == 0x13 {
                self.allow16(offset + 4, 3);
            }
        }
        self
    }

    fn port(self, kind: u8, at: u8, slot: u32) -> Self {
        let flags = kind << 4 | 2;
        // Endpoints can be reset alone.
        let able = if matches!(kind, 0 | 9) { 0x10 } else { 0 };
        let mut body = vec![flags, u8::from(slot != 0), 0, 0, 0, able];
        body.resize(0x3a, 0);
        body[0x12..0x16].copy_from_slice(&slot.to_le_bytes());
        let mut this = self.capabilities(&[(at, 0x10, &body)]);
        let at = u16::from(at);
        this.allow16(at + 8, 0xffff);
        this.allow16(at + 0x10, 0x01ff);
        this.allow16(at + 0x18, 0x17ff);
        this.allow16(at + 0x28, 0xffff);
        this
    }

    /// Links an MSI (64 bits, maskable) and a power capability before the present list.
    fn messages(mut self, msi: u8, power: u8) -> Self {
        let first = self.bytes[0x34];
        self.bytes[6] = 0x10;
        self.bytes[0x34] = msi;
        self.bytes[usize::from(msi)] = 5;
        self.bytes[usize::from(msi) + 1] = power;
        self.set16(u16::from(msi) + 2, 0x0180);
        self.bytes[usize::from(power)] = 1;
        self.bytes[usize::from(power) + 1] = first;
        let msi = u16::from(msi);
        self.allow16(msi + 2, 0x0071);
        self.allow32(msi + 4, !3);
        self.allow32(msi + 8, u32::MAX);
        self.allow16(msi + 12, 0xffff);
        self.allow32(msi + 16, u32::MAX);
        self.allow16(u16::from(power) + 4, 0x0103);
        self
    }

    pub(crate) fn u16(&self, offset: u16) -> u16 {
        let at = usize::from(offset);
        u16::from_le_bytes([self.bytes[at], self.bytes[at + 1]])
    }

    pub(crate) fn u32(&self, offset: u16) -> u32 {
        u32::from(self.u16(offset)) | u32::from(self.u16(offset + 2)) << 16
    }

    pub(crate) fn set16(&mut self, offset: u16, value: u16) {
        self.bytes[usize::from(offset)..][..2].copy_from_slice(&value.to_le_bytes());
    }

    pub(crate) fn set32(&mut self, offset: u16, value: u32) {
        self.bytes[usize::from(offset)..][..4].copy_from_slice(&value.to_le_bytes());
    }

    fn allow16(&mut self, offset: u16, mask: u16) {
        self.writable[usize::from(offset)..][..2].copy_from_slice(&mask.to_le_bytes());
    }

    fn allow32(&mut self, offset: u16, mask: u32) {
        self.writable[usize::from(offset)..][..4].copy_from_slice(&mask.to_le_bytes());
    }

    /// Everything writable is zero again.
    pub(crate) fn reset(&mut self) {
        for (byte, writable) in self.bytes.iter_mut().zip(&self.writable) {
            *byte &= !writable;
        }
    }

    fn reset_alone(&mut self) {
        if !self.is_stubborn {
            self.reset();
        }
    }

    /// What the function decodes now, by the registers it really holds.
    pub(crate) fn decoded(&self) -> Vec<ByteRange<Hpa>> {
        if self.u16(4) & 2 == 0 {
            return Vec::new();
        }
        let address = |&(offset, size, is_wide): &(u16, u64, bool)| {
            let low = self.u32(offset);
            if offset == 0x30 && low & 1 == 0 {
                return None;
            }
            let high = if is_wide { self.u32(offset + 4) } else { 0 };
            let address = u64::from(high) << 32 | u64::from(low & !0xf);
            ByteRange::new(Hpa::new(address & !(size - 1)), size)
        };
        self.bars.iter().filter_map(address).collect()
    }

    /// The ports the function decodes now.
    pub(crate) fn decoded_ports(&self) -> Vec<Ports> {
        if self.u16(4) & 1 == 0 {
            return Vec::new();
        }
        let ports = |&(offset, count): &(u16, u32)| {
            let first = u16::try_from(self.u32(offset) & !3).ok()?;
            Ports::new(first, u64::from(count))
        };
        self.port_bars.iter().filter_map(ports).collect()
    }

    /// The ports a bridge passes down now.
    pub(crate) fn passed_ports(&self) -> Option<Ports> {
        if self.bytes[0xe] != 1 || self.u16(4) & 1 == 0 || self.u32(0x30) & 0xffff != 0 {
            return None;
        }
        let first = (self.u16(0x1c) & 0xf0) << 8;
        let last = match self.u32(0x30) >> 16 {
            0 => self.u16(0x1c) & 0xf000 | 0xfff,
            _ => u16::MAX,
        };
        Ports::inclusive(first, last)
    }

    /// What a bridge passes down now.
    pub(crate) fn passed(&self) -> Vec<ByteRange<Hpa>> {
        if self.bytes[0xe] != 1 || self.u16(4) & 2 == 0 {
            return Vec::new();
        }
        let range = |offset, base: u32, limit: u32| {
            let low = self.u32(offset);
            let base = u64::from(base) << 32 | u64::from(low & 0xfff0) << 16;
            let limit = u64::from(limit) << 32 | u64::from(low & 0xfff0_0000) | 0xf_ffff;
            ByteRange::inclusive(Hpa::new(base), Hpa::new(limit))
        };
        let both = [
            range(0x20, 0, 0),
            range(0x24, self.u32(0x28), self.u32(0x2c)),
        ];
        both.into_iter().flatten().collect()
    }
}

/// The machine.
#[derive(Clone)]
pub(crate) struct Machine {
    pub(crate) functions: Vec<Simulated>,
    pub(crate) accesses: Cell<usize>,
}

impl Machine {
    /// Root bus 0: a host bridge, a root port with an NVMe drive (bus 1), an external hot-plug
    /// port with `edu` (bus 2), and a bridge to conventional PCI with an old card (bus 3); a
    /// network card integrated in the root complex.
    pub(crate) fn new() -> Self {
        let acs = (0x140, 0x0d, 0x7f);
        let functions = vec![
            Simulated::new(None, 0, 0x8086, 0x29c0, 0x06_0000),
            Simulated::new(None, 0x1c, 0x8086, 0x3420, 0x06_0400)
                .bridge(0, 1, 1)
                .windows(0xfe10_fe00, 0xc00f_c000, 0)
                .port(4, 0x80, 0)
                .extended(&[(0x100, 0x01, 0), acs]),
            Simulated::new(None, 0x1d, 0x1b36, 0x000c, 0x06_0400)
                .bridge(0, 2, 2)
                .windows(0xfe30_fe20, 0x0000_fff0, 0)
                .port(4, 0x80, 0x62)
                .extended(&[(0x100, 0x1d, 0), acs]),
            Simulated::new(None, 0x1e, 0x1b36, 0x000e, 0x06_0400)
                .bridge(0, 3, 4)
                .windows(0xfe50_fe40, 0x0000_fff0, 0)
                .port(7, 0x80, 0),
            Simulated::new(Some(PORT), 0, 0x1b36, 0x0010, 0x01_0802)
                .bar(0x10, 0xfe00_0000, 0x4000, true)
                .rom(0x1_0000)
                .port(0, 0x80, 0)
                .messages(0x40, 0x60)
                .extended(&[
                    (0x100, 0x0f, 0x20),
                    (0x120, 0x1b, 0x700),
                    acs,
                    (0x160, 0x13, 0),
                ]),
            Simulated::new(Some(EXTERNAL), 0, 0x1234, 0x11e8, 0x00_ff00)
                .bar(0x10, 0xfe20_0000, 0x10_0000, false)
                .rom(0x1_0000)
                .port(0, 0x80, 0)
                .messages(0x40, 0x60)
                .extended(&[
                    (0x100, 0x01, 0),
                    (0x120, 0x0f, 0x20),
                    (0x130, 0x10, 0),
                    (0x200, 0x0e, 0),
                ]),
            Simulated::new(Some(TO_PCI), 3, 0x8086, 0x100e, 0x02_0000)
                .bar(0x10, 0xfe40_0000, 0x2_0000, false)
                .port_bar(0x14, 0xc000, 0x40)
                .messages(0x40, 0x60),
            Simulated::new(None, 0x1f, 0x8086, 0x10d3, 0x02_0000)
                .bar(0x10, 0xfe60_0000, 0x2_0000, false)
                .bar(0x18, 0x38_0000_0000, 0x8000_0000, true)
                .port_bar(0x20, 0x700, 0x20)
                .port(9, 0x80, 0)
                .messages(0x40, 0x60),
        ];
        let mut machine = Self {
            functions,
            accesses: Cell::new(0),
        };
        machine.functions[NIC].is_stubborn = true;
        for function in &mut machine.functions {
            function.set16(4, 0x0006);
        }
        for index in [OLD, NIC] {
            machine.functions[index].set16(4, 0x0007);
        }
        // The old card's ports go through its bridge.
        machine.functions[TO_PCI].set16(0x1c, 0xc1c1);
        machine.functions[TO_PCI].set16(4, 0x0007);
        machine
    }

    pub(crate) fn index_of(&self, at: Address) -> Option<usize> {
        if at.segment != 0 {
            return None;
        }
        let mut parent = None;
        for _ in 0..8 {
            if self.bus_of(parent)? == at.bdf.bus() {
                let mut all = self.functions.iter();
                return all
                    .position(|f| f.is_there && f.parent == parent && f.devfn == at.bdf.devfn());
            }
            parent = Some(self.functions.iter().position(|f| {
                let range = f.bytes[0x19]..=f.bytes[0x1a];
                f.parent == parent
                    && f.bytes[0xe] == 1
                    && f.bytes[0x19] != 0
                    && range.contains(&at.bdf.bus())
            })?);
        }
        None
    }

    fn bus_of(&self, parent: Option<usize>) -> Option<u8> {
        match parent {
            None => Some(0),
            Some(bridge) => Some(self.functions[bridge].bytes[0x19]).filter(|&bus| bus != 0),
        }
    }

    pub(crate) fn address_of(&self, index: usize) -> Option<Address> {
        let function = &self.functions[index];
        let bus = self.bus_of(function.parent)?;
        Some(Address::new(0, Bdf::from_parts(bus, function.devfn)))
    }

    pub(crate) fn reset_behind(&mut self, bridge: usize) {
        for index in 0..self.functions.len() {
            if self.functions[index].parent == Some(bridge) {
                self.functions[index].reset_alone();
                self.reset_behind(index);
            }
        }
    }

    fn consequences(&mut self, index: usize, before: &[u8]) {
        let function = &self.functions[index];
        let is_bridge = function.bytes[0xe] == 1;
        if is_bridge && function.bytes[0x3e] & 0x40 != 0
            || is_bridge && function.bytes[0x80] == 0x10 && function.bytes[0x90] & 0x10 != 0
            || function.bytes[0x80] == 0x10 && function.bytes[0x99] & 4 != 0
        {
            self.reset_behind(index);
        }
        let function = &mut self.functions[index];
        if function.bytes[0x80] == 0x10
            && function.bytes[0x87] & 0x10 != 0
            && function.bytes[0x89] & 0x80 != 0
        {
            function.bytes[0x89] &= 0x7f;
            function.reset_alone();
        }
        if function.bytes[0x60] == 1 && before[0x64] & 3 == 3 && function.bytes[0x64] & 3 == 0 {
            function.reset_alone();
        }
    }
}

impl ConfigSpace for Machine {
    fn read(&self, at: Address, register: Register) -> u32 {
        self.accesses.set(self.accesses.get() + 1);
        match self.index_of(at) {
            Some(index) => register.extract(self.functions[index].u32(register.dword_offset())),
            None => register.width().mask(),
        }
    }

    fn write(&mut self, at: Address, register: Register, value: u32) {
        let Some(index) = self.index_of(at) else {
            return;
        };
        let function = &mut self.functions[index];
        let before = function.bytes.clone();
        for byte in 0..register.width().bytes() {
            let offset = usize::from(register.offset() + byte);
            let new = (value >> (8 * byte)) as u8;
            let writable = function.writable[offset];
            let old = function.bytes[offset] & !(new & function.clear[offset]);
            function.bytes[offset] = old & !writable | new & writable;
        }
        self.consequences(index, &before);
    }
}
