//! A guest of a few instructions: a kernel that makes one attack, says what came of it, powers off.
//!
//! Owns the words of which attacks are made (report, wait, install code, judge) and the kernel file
//! they end in; knows no attack. A program begins in 64-bit mode with the first 4 GiB mapped as
//! they are (Linux boot protocol, "64-bit boot protocol") and uses no stack.

use iced_x86::IcedError;
use iced_x86::code_asm::*;

/// What assembling gives.
pub(crate) type Assembled = Result<(), IcedError>;

/// Where code for processors in real mode is put: a start-up message of vector 8 begins there.
pub(crate) const REAL_MODE_CODE: u32 = 0x8000;
/// Where a processor begins that enters system management before its SMBASE was moved: at
/// 30000h + 8000h (Intel SDM volume 3, 32.4).
pub(crate) const SMI_CODE: u32 = 0x3_8000;
/// A word in low memory by which such code shows that it ran; nothing else is kept near it.
const MARK: u32 = 0x8ff0;

/// The second serial port, on which a guest reports.
const COM2: u32 = 0x2f8;
/// Its line control register.
const COM2_FORMAT: u32 = COM2 + 3;
/// Its line status register, of which bit 5 is set while it takes a byte.
const COM2_STATUS: u32 = COM2 + 5;
/// The PM1 control registers as the firmware of QEMU's q35 and that of Bochs place them, and their
/// "soft off".
const PM1_CONTROLS: [u32; 2] = [0x604, 0xb004];
const SOFT_OFF: u32 = 1 << 13;

/// Turns of a loop: a second or so of an emulated processor.
const TURNS: u32 = 50_000_000;

/// An attack under way.
pub(crate) struct Program {
    /// The assembler, for what is particular to one attack.
    pub(crate) code: CodeAssembler,
    /// The name of the attack, or of the check, under way.
    name: &'static str,
    /// Code to be copied into place: where the copying refers to it, and its bytes.
    installed: Vec<(CodeLabel, Vec<u8>)>,
}

impl Program {
    /// A program that reports under `name` and makes `attack`; it passes if `attack` falls through.
    /// Gives the kernel file.
    pub(crate) fn kernel(
        name: &'static str,
        attack: impl FnOnce(&mut Self) -> Assembled,
    ) -> Result<Vec<u8>, IcedError> {
        let mut program = Self {
            code: CodeAssembler::new(64)?,
            name,
            installed: Vec::new(),
        };
        // Eight bits a byte: firmware may have left the port as it is after reset.
        program.output(COM2_FORMAT, 0b11)?;
        say(
            &mut program.code,
            &format!("bouncer-guest 1\nstart {name}\n"),
        )?;
        program.code.mov(dword_ptr(MARK), 0)?;
        attack(&mut program)?;
        let last = program.name;
        say(&mut program.code, &format!("pass {last}\ndone\n"))?;
        power_off(&mut program.code)?;
        for (label, bytes) in &mut program.installed {
            program.code.set_label(label)?;
            program.code.db(bytes)?;
        }
        Ok(wrapped(&program.code.assemble(0)?))
    }

    /// Reports that what was under way has passed, and begins `name`.
    pub(crate) fn next(&mut self, name: &'static str) -> Assembled {
        say(
            &mut self.code,
            &format!("pass {}\nstart {name}\n", self.name),
        )?;
        self.name = name;
        Ok(())
    }

    /// So many bytes of zeros behind the program, which it may write.
    pub(crate) fn room(&mut self, bytes: usize) -> CodeLabel {
        let label = self.code.create_label();
        self.installed.push((label, vec![0; bytes]));
        label
    }

    /// Stores `value` at `address`.
    pub(crate) fn store(&mut self, address: u32, value: u32) -> Assembled {
        self.code.mov(ebx, address)?;
        self.code.mov(dword_ptr(rbx), value)
    }

    /// Writes a byte to a port.
    pub(crate) fn output(&mut self, port: u32, value: u32) -> Assembled {
        self.code.mov(edx, port)?;
        self.code.mov(eax, value)?;
        self.code.out(dx, al)
    }

    /// Lets a second or so pass, during which Bouncer is entered now and then.
    pub(crate) fn wait(&mut self) -> Assembled {
        self.turn(TURNS)
    }

    /// Lets a hundredth of that pass.
    pub(crate) fn wait_briefly(&mut self) -> Assembled {
        self.turn(TURNS / 100)
    }

    fn turn(&mut self, turns: u32) -> Assembled {
        let mut again = self.code.create_label();
        self.code.mov(ecx, turns)?;
        self.code.set_label(&mut again)?;
        self.code.dec(ecx)?;
        self.code.jne(again)
    }

    /// Copies code assembled for elsewhere to `address`, below 1 MiB.
    pub(crate) fn install(&mut self, address: u32, bytes: Vec<u8>) -> Assembled {
        let source = self.code.create_label();
        self.code.lea(rsi, ptr(source))?;
        self.code.mov(edi, address)?;
        self.code
            .mov(ecx, u32::try_from(bytes.len()).expect("a few bytes"))?;
        self.code.cld()?;
        self.code.rep().movsb()?;
        self.installed.push((source, bytes));
        Ok(())
    }

    /// Fails with `why` unless the last comparison found two equal values.
    pub(crate) fn demand_equal(&mut self, why: &str) -> Assembled {
        let mut fine = self.code.create_label();
        self.code.je(fine)?;
        self.fail(why)?;
        self.code.set_label(&mut fine)?;
        // The assembler allows an instruction one label: what follows may have its own.
        self.code.nop()
    }

    /// Fails with `why` if code that leaves the mark has run.
    pub(crate) fn demand_no_mark(&mut self, why: &str) -> Assembled {
        self.code.cmp(dword_ptr(MARK), 0)?;
        self.demand_equal(why)
    }

    /// Fails with `why` unless code that leaves the mark has run.
    pub(crate) fn demand_mark(&mut self, why: &str) -> Assembled {
        self.code.cmp(dword_ptr(MARK), 1)?;
        self.demand_equal(why)
    }

    /// Reports failure and powers off.
    fn fail(&mut self, why: &str) -> Assembled {
        fail(&mut self.code, self.name, why)
    }

    /// Code for real mode that reports that this attack has succeeded, for `why`, and powers off.
    pub(crate) fn real_mode_failure(&self, why: &str) -> Result<Vec<u8>, IcedError> {
        let mut code = CodeAssembler::new(16)?;
        fail(&mut code, self.name, why)?;
        code.assemble(0)
    }
}

/// Code for real mode that leaves the mark and halts.
pub(crate) fn mark_and_halt() -> Result<Vec<u8>, IcedError> {
    let mut code = CodeAssembler::new(16)?;
    let mut forever = code.create_label();
    leave_mark(&mut code)?;
    code.set_label(&mut forever)?;
    code.hlt()?;
    code.jmp(forever)?;
    code.assemble(0)
}

/// Code for system management that leaves the mark and goes back.
pub(crate) fn mark_and_resume() -> Result<Vec<u8>, IcedError> {
    let mut code = CodeAssembler::new(16)?;
    leave_mark(&mut code)?;
    code.rsm()?;
    code.assemble(0)
}

fn leave_mark(code: &mut CodeAssembler) -> Assembled {
    code.xor(ax, ax)?;
    code.mov(ds, ax)?;
    code.mov(dword_ptr(MARK), 1)
}

fn fail(code: &mut CodeAssembler, name: &str, why: &str) -> Assembled {
    say(code, &format!("fail {name} {why}\ndone\n"))?;
    power_off(code)
}

/// Sends `text` to COM2, in any mode, with neither stack nor memory.
fn say(code: &mut CodeAssembler, text: &str) -> Assembled {
    for byte in text.bytes() {
        let mut busy = code.create_label();
        code.mov(dx, COM2_STATUS)?;
        code.set_label(&mut busy)?;
        code.in_(al, dx)?;
        code.test(al, 1 << 5)?;
        code.je(busy)?;
        code.mov(dx, COM2)?;
        code.mov(al, u32::from(byte))?;
        code.out(dx, al)?;
    }
    Ok(())
}

fn power_off(code: &mut CodeAssembler) -> Assembled {
    let mut forever = code.create_label();
    for control in PM1_CONTROLS {
        code.mov(dx, control)?;
        code.mov(ax, SOFT_OFF)?;
        code.out(dx, ax)?;
    }
    code.set_label(&mut forever)?;
    code.hlt()?;
    code.jmp(forever)
}

/// The least kernel file that is one (Linux, Documentation/arch/x86/boot.rst, "The Real-Mode Kernel
/// Header"): one setup sector, protocol 2.15, relocatable, with a 64-bit entry at 200h.
fn wrapped(code: &[u8]) -> Vec<u8> {
    const SETUP: usize = 0x400;
    const ENTRY: usize = 0x200;
    const PAGE: usize = 0x1000;
    const FIELDS: [(usize, &[u8]); 12] = [
        (0x1f1, &[1]),                      // setup_sects
        (0x1fe, &[0x55, 0xaa]),             // boot_flag
        (0x200, &[0xeb, 0x6a]),             // jump, whose distance is the header's length
        (0x202, b"HdrS"),                   // header
        (0x206, &[0x0f, 0x02]),             // version
        (0x22c, &[0xff, 0xff, 0xff, 0x7f]), // initrd_addr_max
        (0x230, &[0, 0, 0x20, 0]),          // kernel_alignment: 2 MiB
        (0x234, &[1]),                      // relocatable_kernel
        (0x236, &[0x7f, 0]),                // xloadflags: XLF_KERNEL_64 and what follows it
        (0x238, &[0xff, 0x07, 0, 0]),       // cmdline_size
        (0x258, &[0, 0, 0, 1]),             // pref_address: 16 MiB
        (0x260, &[0, 0, 0x40, 0]),          // init_size: 4 MiB
    ];
    let body = (ENTRY + code.len()).next_multiple_of(PAGE);
    let mut file = vec![0; SETUP + body];
    for (offset, bytes) in FIELDS {
        file[offset..offset + bytes.len()].copy_from_slice(bytes);
    }
    let paragraphs = u32::try_from(body / 16).expect("a few pages");
    file[0x1f4..0x1f8].copy_from_slice(&paragraphs.to_le_bytes()); // syssize
    file[SETUP + ENTRY..][..code.len()].copy_from_slice(code);
    file
}
