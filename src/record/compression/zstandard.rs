//! zstd frames.
//!
//! A frame names the window that its reader must keep. Up to 8 MiB (all levels up to 19) it is simply granted. The levels above
//! ask for up to 128 MiB: those are read too, but no more than 16 MiB may come out, so that a sender cannot choose our memory.

use std::cell::RefCell;

use zstd::zstd_safe::{CCtx, CParameter, DCtx, DParameter, InBuffer, OutBuffer, ResetDirective, get_error_name};

use super::{Compression, RecordError, failed};

const WINDOW_LOG_FREE: u32 = 23;
const WINDOW_LOG_MAX: u32 = 27;
const LARGE_WINDOW_OUTPUT_MAX: usize = 16 << 20;
/// A context that holds more than this is not kept for the next batch.
const KEPT_CONTEXT_MAX: usize = 4 << 20;
const FRAME_MAGIC: [u8; 4] = [0x28, 0xB5, 0x2F, 0xFD];
const DEFAULT_LEVEL: i32 = 3;

thread_local! {
    static READER: RefCell<Option<DCtx<'static>>> = const { RefCell::new(None) };
    static WRITER: RefCell<Option<CCtx<'static>>> = const { RefCell::new(None) };
}

pub struct Reader<'a> {
    context: Option<DCtx<'static>>,
    rest: &'a [u8],
    large_window: bool,
    /// Inside a frame: the end of the bytes would cut it.
    in_frame: bool,
}

impl<'a> Reader<'a> {
    pub fn new(bytes: &'a [u8]) -> Result<Reader<'a>, RecordError> {
        let large_window = window_size(bytes).is_some_and(|size| size > 1 << WINDOW_LOG_FREE);
        let mut context = READER
            .take()
            .or_else(DCtx::try_create)
            .ok_or_else(|| failed(Compression::Zstd, "no memory for its context"))?;
        context.reset(ResetDirective::SessionAndParameters).map_err(zstd_failed)?;
        let window = if large_window { WINDOW_LOG_MAX } else { WINDOW_LOG_FREE };
        context.set_parameter(DParameter::WindowLogMax(window)).map_err(zstd_failed)?;
        Ok(Reader { context: Some(context), rest: bytes, large_window, in_frame: false })
    }

    /// Most bytes that may come out of this stream.
    pub fn output_bytes_max(&self) -> usize {
        if self.large_window { LARGE_WINDOW_OUTPUT_MAX } else { usize::MAX }
    }

    pub fn read(&mut self, out: &mut [u8]) -> Result<usize, RecordError> {
        let Some(context) = &mut self.context else { return Ok(0) };
        if out.is_empty() {
            return Ok(0);
        }
        loop {
            let mut input = InBuffer::around(self.rest);
            let mut output = OutBuffer::around(&mut *out);
            let hint = context.decompress_stream(&mut output, &mut input).map_err(zstd_failed)?;
            let (taken, given) = (input.pos(), output.pos());
            self.rest = self.rest.get(taken..).unwrap_or_default();
            if taken > 0 || given > 0 {
                self.in_frame = hint != 0;
            }
            if given > 0 {
                return Ok(given);
            }
            if self.rest.is_empty() {
                if self.in_frame {
                    return Err(failed(Compression::Zstd, "it ends inside a frame"));
                }
                return Ok(0);
            }
            if taken == 0 {
                return Err(failed(Compression::Zstd, "it makes no progress"));
            }
        }
    }
}

impl Drop for Reader<'_> {
    fn drop(&mut self) {
        if let Some(context) = self.context.take()
            && context.sizeof() <= KEPT_CONTEXT_MAX
        {
            READER.set(Some(context));
        }
    }
}

/// The window that the first frame asks for, if it begins as one.
fn window_size(bytes: &[u8]) -> Option<u64> {
    let rest = bytes.strip_prefix(&FRAME_MAGIC)?;
    let (descriptor, rest) = rest.split_first()?;
    let single_segment = descriptor & 0x20 != 0;
    if !single_segment {
        let window = rest.first()?;
        let base = 1u64 << (10 + (window >> 3));
        return Some(base + (base / 8) * u64::from(window & 7));
    }
    let dictionary = [0, 1, 2, 4][usize::from(descriptor & 3)];
    let content = rest.get(dictionary..)?;
    let size = [1, 2, 4, 8][usize::from(descriptor >> 6)];
    let mut field = [0; 8];
    field.get_mut(..size)?.copy_from_slice(content.get(..size)?);
    Some(u64::from_le_bytes(field) + if size == 2 { 256 } else { 0 })
}

pub struct Writer {
    context: Option<CCtx<'static>>,
    out: Vec<u8>,
}

impl Writer {
    pub fn new(level: Option<i32>) -> Result<Writer, RecordError> {
        let mut context = WRITER
            .take()
            .or_else(CCtx::try_create)
            .ok_or_else(|| failed(Compression::Zstd, "no memory for its context"))?;
        context.reset(ResetDirective::SessionAndParameters).map_err(zstd_failed)?;
        let level = level.unwrap_or(DEFAULT_LEVEL);
        context.set_parameter(CParameter::CompressionLevel(level)).map_err(zstd_failed)?;
        Ok(Writer { context: Some(context), out: Vec::with_capacity(4 << 10) })
    }

    pub fn write(&mut self, bytes: &[u8]) -> Result<(), RecordError> {
        let Some(context) = &mut self.context else { return Ok(()) };
        let mut input = InBuffer::around(bytes);
        while input.pos() < bytes.len() {
            append(&mut self.out, |output| context.compress_stream(output, &mut input))?;
        }
        Ok(())
    }

    pub fn finish(mut self) -> Result<Vec<u8>, RecordError> {
        let Some(context) = &mut self.context else { return Ok(Vec::new()) };
        while append(&mut self.out, |output| context.end_stream(output))? != 0 {}
        Ok(std::mem::take(&mut self.out))
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if let Some(context) = self.context.take()
            && context.sizeof() <= KEPT_CONTEXT_MAX
        {
            WRITER.set(Some(context));
        }
    }
}

/// Runs one step of the codec with room at the end of `out`.
fn append(
    out: &mut Vec<u8>,
    step: impl FnOnce(&mut OutBuffer<'_, Vec<u8>>) -> Result<usize, usize>,
) -> Result<usize, RecordError> {
    out.reserve(4 << 10);
    let end = out.len();
    let mut output = OutBuffer::around_pos(out, end);
    step(&mut output).map_err(zstd_failed)
}

fn zstd_failed(code: usize) -> RecordError {
    failed(Compression::Zstd, get_error_name(code))
}
