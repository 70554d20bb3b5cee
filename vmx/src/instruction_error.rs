//! Why a VMX instruction failed, in words. SDM vol. 3C, 31.4.

/// The manual's sentence for VM-instruction error `number`, shortened.
pub const fn instruction_error(number: u64) -> &'static str {
    match number {
        0 => "there is no current VMCS",
        2 => "VMCLEAR with an invalid address",
        4 => "VMLAUNCH with a VMCS that is not clear",
        5 => "VMRESUME with a VMCS that was not launched",
        7 => "VM entry with invalid control fields",
        8 => "VM entry with invalid host-state fields",
        9 => "VMPTRLD with an invalid address",
        11 => "VMPTRLD with a VMCS of another revision",
        12 => "access to a field that this processor does not have",
        13 => "VMWRITE to a read-only field",
        15 => "VMXON within VMX operation",
        26 => "VM entry with events blocked by MOV SS",
        28 => "INVEPT or INVVPID with an invalid operand",
        _ => "an error unknown here",
    }
}
