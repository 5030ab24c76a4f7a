"""Writes prototypes.h: make_prototypes.py LIB_RS, with src/lib.rs of the crate ort-sys 2.0.0-rc.15 (MIT OR Apache-2.0).

No wheel of ONNX Runtime has its C header, onnxruntime_c_api.h. The crate declares struct OrtApi of ONNX Runtime 1.31
for Rust, in the order of the header. This turns the declarations of the functions that ../table.go names back into C,
each behind its number in the table. The table only ever grows at its end, so the numbers are good for all releases
that have the function.
"""

import pathlib
import re
import sys

HERE = pathlib.Path(__file__).parent
BASE = {
    "core::ffi::c_char": "char", "c_char": "char", "os_char": "char", "core::ffi::c_void": "void", "core::ffi::c_int": "int",
    "usize": "size_t", "i64": "int64_t", "u32": "uint32_t", "OrtStatusPtr": "OrtStatus*",
}


def c_type(rust):
    stars = ""
    while m := re.match(r"\*(const|mut) (.*)", rust):
        stars, rust = ("* const" if m[1] == "const" and stars else "*") + stars, m[2]
        const = m[1] == "const"
    if not stars:
        return BASE.get(rust, rust)
    return ("const " if const else "") + BASE.get(rust, rust) + stars


def main(path):
    wanted = set(re.findall(r'sym:"(\w+)"', (HERE.parent / "table.go").read_text()))
    source = pathlib.Path(path).read_text()
    body = source[source.index("pub struct OrtApi {"):]
    body = re.sub(r'#\[doc = "(?:[^"\\]|\\.)*"\]', "", body[:body.index("\n}")])
    # The few functions that differ in a browser are declared twice.
    body = re.sub(r'#\[cfg\(all\(target_family = "wasm", target_os = "unknown"\)\)\]\s*pub ', "", body)
    functions = re.findall(r"\bpub (\w+):(.*?)(?=\bpub \w+:|\Z)", body, flags=re.S)
    lines = ["// OrtApi of ONNX Runtime 1.31, as the crate ort-sys 2.0.0-rc.15 has it. Written by make_prototypes.py.\n"]
    for slot, (name, declaration) in enumerate(functions):
        if name not in wanted:
            continue
        m = re.match(r'\s*unsafe extern "system" fn\(([^()]*)\)(?: -> ([\w: *]+))?,', declaration) or sys.exit(f"{name}: not understood")
        params = [p.strip().split(": ", 1) for p in m[1].split(",") if p.strip()]
        words = ", ".join(f"{c_type(kind)} {param.rstrip('_')}" for param, kind in params)
        lines.append(f"/* {slot} */ {c_type(m[2]) if m[2] else 'void'} {name}({words});\n")
    (HERE / "prototypes.h").write_text("".join(lines))


if __name__ == "__main__":
    main(sys.argv[1])
