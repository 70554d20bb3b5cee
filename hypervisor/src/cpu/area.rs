//! The memory of one processor: what others may read, its tables, its stacks.

// UNSAFETY: finds the area through the GS base, and hands out pages that hardware writes.
#![expect(unsafe_code)]

use core::arch::asm;
use core::cell::UnsafeCell;
use core::mem::offset_of;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use boot::reservation::PER_CPU_BYTES;
use memory::{Hpa, PAGE_SIZE};
use processor::nmi::Ledger;
use processor::{Counters, Mailbox};

use super::tables::Tables;

/// Pages a backend may use for structures that hardware reads and writes.
pub(crate) const BACKEND_PAGES: usize = 4;

/// No processor has this APIC id: it is the broadcast destination.
const NO_APIC_ID: u32 = u32::MAX;

#[repr(C, align(4096))]
struct Page([u8; PAGE_SIZE as usize]);

/// One processor's memory. Lives at a fixed place from start to end; the fields others may look
/// at are atomic.
#[repr(C, align(4096))]
pub(crate) struct Area {
    /// Its own address, so that one instruction finds it through GS.
    this: u64,
    index: u32,
    apic_id: AtomicU32,
    nmis: AtomicU64,
    /// What is known of those that are under way.
    pub(crate) ledger: Ledger,
    /// Another processor has sent an NMI that was not taken yet.
    is_called: AtomicBool,
    is_ready: AtomicBool,
    is_in_guest: AtomicBool,
    /// The count of changes of the nested tables when the processor last entered the guest.
    nested_tables: AtomicU64,
    /// Orders of other processors.
    pub(crate) mailbox: Mailbox,
    /// Why this processor left the guest, and how often.
    pub(crate) counters: Counters,
    tables: UnsafeCell<Tables>,
    backend: [UnsafeCell<Page>; BACKEND_PAGES],
    emergency_stack: UnsafeCell<Page>,
    /// Unmapped, so that an overflowing stack faults.
    guard: UnsafeCell<Page>,
    stack: UnsafeCell<[Page; STACK_PAGES]>,
}

const STACK_PAGES: usize = PER_CPU_BYTES as usize / PAGE_SIZE as usize - BACKEND_PAGES - 3;
const _: () = assert!(size_of::<Area>() as u64 == PER_CPU_BYTES);
const _: () = assert!(STACK_PAGES >= 4);

// SAFETY: the cells are only touched by the processor whose area it is (`tables`, stacks) or
// through raw pointers by hardware and that processor (`backend`).
unsafe impl Sync for Area {}

impl Area {
    /// Makes the zeroed memory at `at` the area of processor `index`.
    ///
    /// # Safety
    /// `at` names `PER_CPU_BYTES` bytes, page aligned, zeroed, mapped, used by nobody else, ever.
    pub(crate) unsafe fn create(at: Hpa, index: u32) -> &'static Self {
        let area = at.raw() as *mut Self;
        // SAFETY: the memory is ours alone (caller); all-zero is a valid `Area`.
        unsafe {
            (&raw mut (*area).this).write(at.raw());
            (&raw mut (*area).index).write(index);
            (*area).apic_id.store(NO_APIC_ID, Ordering::Relaxed);
            &*area
        }
    }

    /// Makes this processor use the area: GS base, descriptor tables.
    ///
    /// # Safety
    /// Called once, by the processor whose area it is.
    pub(crate) unsafe fn adopt(&'static self, apic_id: u32) {
        self.apic_id.store(apic_id, Ordering::Release);
        let emergency = (&raw const self.emergency_stack) as u64 + PAGE_SIZE;
        // SAFETY: this processor alone uses its tables, for ever (caller). Loading them clears
        // the GS base, which is therefore written afterwards.
        unsafe {
            (*self.tables.get()).load(emergency);
            x86::msr::wrmsr(x86::msr::IA32_GS_BASE, self.this);
        }
    }

    /// Notes that the processor runs its loop from now on.
    pub(crate) fn note_ready(&self) {
        self.is_ready.store(true, Ordering::Release);
    }

    /// Whether the processor runs its loop.
    pub(crate) fn is_ready(&self) -> bool {
        self.is_ready.load(Ordering::Acquire)
    }

    /// Position among the processors, from 0.
    pub(crate) fn index(&self) -> u32 {
        self.index
    }

    /// The APIC id of the processor.
    pub(crate) fn apic_id(&self) -> u32 {
        self.apic_id.load(Ordering::Acquire)
    }

    /// Where the page starts below the stack that must never be reached.
    pub(crate) fn guard(&self) -> Hpa {
        Hpa::new((&raw const self.guard) as u64)
    }

    /// The lowest and the highest address of the stack.
    pub(crate) fn stack(&self) -> (u64, u64) {
        let base = (&raw const self.stack) as u64;
        (base, base + (STACK_PAGES as u64) * PAGE_SIZE)
    }

    /// The `which`th page for the backend.
    pub(crate) fn backend_page(&self, which: usize) -> *mut u8 {
        self.backend[which].get().cast()
    }

    /// Where its task state segment is.
    pub(crate) fn task_state(&self) -> u64 {
        Tables::task_state(self.tables.get())
    }

    /// The count of NMIs that were noted and not taken.
    pub(crate) fn nmis(&self) -> &AtomicU64 {
        &self.nmis
    }

    /// Notes that an NMI came.
    pub(crate) fn note_nmi(&self) {
        self.nmis.fetch_add(1, Ordering::Relaxed);
    }

    /// Marks the processor as called. Returns whether it must be sent an NMI: not when an earlier one
    /// is still under way.
    pub(crate) fn call(&self) -> bool {
        !self.is_called.swap(true, Ordering::AcqRel)
    }

    /// Notes that the processor is about to enter the guest, with nested tables of which `changes` is
    /// the count. Returns whether they have changed since the last time.
    ///
    /// Whoever changes them either sees that this processor is on its way, or is seen here.
    pub(crate) fn enter_guest(&self, changes: &AtomicU64) -> bool {
        self.is_in_guest.store(true, Ordering::SeqCst);
        let now = changes.load(Ordering::SeqCst);
        self.nested_tables.swap(now, Ordering::SeqCst) != now
    }

    /// Notes that the processor has left the guest.
    pub(crate) fn leave_guest(&self) {
        self.is_in_guest.store(false, Ordering::SeqCst);
    }

    /// Whether the processor is in the guest with nested tables older than change `wanted`.
    pub(crate) fn is_behind(&self, wanted: u64) -> bool {
        self.is_in_guest.load(Ordering::SeqCst)
            && self.nested_tables.load(Ordering::SeqCst) < wanted
    }

    /// Takes the mark of a call.
    pub(crate) fn take_call(&self) -> bool {
        self.is_called.swap(false, Ordering::AcqRel)
    }

    /// Takes the NMIs noted so far.
    pub(crate) fn take_nmis(&self) -> u64 {
        self.nmis.swap(0, Ordering::Relaxed)
    }
}

/// The area of the running processor.
pub(crate) fn current() -> &'static Area {
    let this: u64;
    // SAFETY: GS base points to this processor's area from `adopt` on, and the world switch
    // restores it before any Rust code runs.
    unsafe {
        asm!(
            "mov {this}, gs:[{offset}]",
            this = out(reg) this,
            offset = const offset_of!(Area, this),
            options(nostack, readonly, preserves_flags),
        );
        &*(this as *const Area)
    }
}
