//! Why a file is no safetensors file: the tensor at fault, where there is one.
//!
//! The format's crate refuses such files, but mostly without naming a tensor.

use serde_json::Value;

/// A tensor, if one is at fault, and what is wrong.
pub(super) struct Fault {
    pub(super) tensor: Option<String>,
    pub(super) problem: String,
}

/// Looks for the first fault of a file's content.
pub(super) fn diagnose(content: &[u8]) -> Option<Fault> {
    let whole = |problem: String| Some(Fault { tensor: None, problem });
    let Some((head, rest)) = content.split_first_chunk::<8>() else {
        return whole(format!("{} bytes are too few", content.len()));
    };
    let header = u64::from_le_bytes(*head);
    if header > rest.len() as u64 {
        return whole(format!("the header should have {header} bytes, the file has {} in all", content.len()));
    }
    let (header, data) = rest.split_at(header as usize);
    let json: Value = match serde_json::from_slice(header) {
        Ok(json) => json,
        Err(error) => return whole(format!("the header is not JSON: {error}")),
    };
    let Some(entries) = json.as_object() else { return whole("the header is no JSON object".into()) };
    let mut places = Vec::new();
    for (name, info) in entries.iter().filter(|(name, _)| *name != "__metadata__") {
        match place(info) {
            Ok((start, end)) => places.push((start, end, name)),
            Err(problem) => return Some(Fault { tensor: Some(name.clone()), problem }),
        }
    }
    places.sort_unstable();
    let mut next = 0;
    for (start, end, name) in places {
        let at =
            |why: String| Some(Fault { tensor: Some(name.clone()), problem: format!("bytes {start}..{end} {why}") });
        if end > data.len() as u64 {
            return at(format!("end beyond the {} that the file holds", data.len()));
        }
        if start != next {
            let how =
                if start < next { "overlap with another tensor's, which end" } else { "leave a gap after the last" };
            return at(format!("{how} at {next}"));
        }
        next = end;
    }
    (next != data.len() as u64).then(|| Fault {
        tensor: None,
        problem: format!("the tensors have {next} bytes, the file holds {}", data.len()),
    })
}

/// Where a tensor stands in the data, if the entry agrees with itself.
fn place(info: &Value) -> Result<(u64, u64), String> {
    let kind = info["dtype"].as_str().ok_or("has no dtype")?;
    let bits = bits(kind).ok_or_else(|| format!("is of unknown element type {kind}"))?;
    let numbers = |key: &str| -> Result<Vec<u64>, String> {
        let list = info[key].as_array().map(|list| list.iter().map(Value::as_u64).collect::<Option<Vec<u64>>>());
        list.flatten().ok_or_else(|| format!("has no {key} of whole numbers"))
    };
    let shape = numbers("shape")?;
    let offsets = numbers("data_offsets")?;
    let [start, end] = offsets[..] else { return Err(format!("has {} data_offsets, not 2", offsets.len())) };
    let total = shape.iter().try_fold(bits, |product, &side| product.checked_mul(side));
    let needed = total.ok_or_else(|| format!("has a shape that no file can hold: {shape:?}"))? / 8;
    match end.checked_sub(start) {
        Some(length) if length == needed => Ok((start, end)),
        Some(length) => Err(format!("has {length} bytes, but shape {shape:?} of {kind} takes {needed}")),
        None => Err(format!("ends at byte {end}, before it begins at {start}")),
    }
}

fn bits(kind: &str) -> Option<u64> {
    let bits = match kind {
        "F4" => 4,
        "F6_E2M3" | "F6_E3M2" => 6,
        "BOOL" | "U8" | "I8" | "F8_E5M2" | "F8_E4M3" | "F8_E8M0" => 8,
        "I16" | "U16" | "F16" | "BF16" => 16,
        "I32" | "U32" | "F32" => 32,
        "F64" | "I64" | "U64" => 64,
        _ => return None,
    };
    Some(bits)
}
