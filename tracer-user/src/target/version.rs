//! The last part of a version that the file does not tell: up to 3.10 there is no `Py_Version`, and compilers take the text apart. A process that runs has it whole.

use iced_x86::{Decoder, DecoderOptions, Mnemonic};

use crate::target::image::Image;
use crate::target::memory::{Bytes, Memory};
use crate::target::process::Process;
use crate::target::python::Version;

/// Returns the text that it has made in a buffer of its own (Python/getversion.c).
const READER: &str = "Py_GetVersion";
/// Bytes of that function that are read.
const LENGTH: u64 = 256;
/// Bytes of the text that are read: `3.10.13 (main…`.
const TEXT: usize = 16;

/// 18 of 3.8.18, as the process itself would say.
#[must_use]
pub fn micro_of(process: &Process, image: &Image, version: Version) -> Option<u8> {
    let bias = image.bias?;
    let symbol = image.elf.symbol(READER)?;
    let code = [LENGTH, 96, 48].into_iter().find_map(|len| image.elf.at(symbol.address, len))?;
    let memory = Memory::new(process.pid());
    buffers(code, symbol.address).into_iter().find_map(|vaddr| {
        let mut text = [0; TEXT];
        memory.read(vaddr.wrapping_add(bias), &mut text).ok()?;
        micro_in(&text, version)
    })
}

/// The addresses that a function takes, up to its end. Pure.
fn buffers(code: &[u8], address: u64) -> Vec<u64> {
    let mut found = Vec::new();
    for instruction in &mut Decoder::with_ip(64, code, address, DecoderOptions::NONE) {
        match instruction.mnemonic() {
            Mnemonic::Ret | Mnemonic::INVALID => break,
            Mnemonic::Lea if instruction.is_ip_rel_memory_operand() => {
                found.push(instruction.ip_rel_memory_address());
            }
            // An executable at a fixed address.
            Mnemonic::Mov if instruction.op1_kind() == iced_x86::OpKind::Immediate32 => {
                found.push(u64::from(instruction.immediate32()));
            }
            _ => {}
        }
    }
    found
}

/// The last part of a version at the beginning of a text. Pure.
fn micro_in(text: &[u8], version: Version) -> Option<u8> {
    let begin = format!("{}.{}.", version.major, version.minor);
    let rest = text.strip_prefix(begin.as_bytes())?;
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    std::str::from_utf8(rest.get(..digits)?).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_tells_the_last_part() {
        let version = Version { major: 3, minor: 8, micro: None };
        assert_eq!(micro_in(b"3.8.18 (default, ", version), Some(18));
        assert_eq!(micro_in(b"3.8.2rc1+ (heads", version), Some(2));
        for none in [&b"3.9.18 ("[..], b"3.8.", b"3.8.999 (", b"", b"3.80.1"] {
            assert_eq!(micro_in(none, version), None, "{none:?}");
        }
    }

    #[test]
    fn addresses_are_taken_from_the_code() {
        // lea rdi, [rip + 0x100]; mov eax, 0x954000; ret; lea rdi, [rip + 0x100].
        let code = [
            0x48, 0x8d, 0x3d, 0x00, 0x01, 0x00, 0x00, 0xb8, 0x00, 0x40, 0x95, 0x00, 0xc3, 0x48, 0x8d, 0x3d,
            0x00, 0x01, 0x00, 0x00,
        ];
        assert_eq!(buffers(&code, 0x1000), [0x1107, 0x95_4000]);
    }
}
