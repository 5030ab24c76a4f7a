"""Unpacks what the virtual GPU needs of Intel's wheels: unpack.py FOLDER WHEEL...

FOLDER/lib gets the libraries and the runtime's own files, FOLDER/licences the licences.
"""

import fnmatch
import os
import sys
import zipfile

# The wheels hold each library under several names, as copies, and much that is not needed here.
WANTED = {
    "intel_opencl_rt": ("libOpenCL.so.1", "libintelocl.so", "libcommon_clang.so.*", "libocl_svml_*.so", "clbltfn*.rtl", "cllibrary*", "cl.cfg"),
    "intel_cmplr_lib_rt": ("libimf.so", "libintlc.so.5", "libirng.so", "libsvml.so"),
    "tbb": ("libtbb.so.12",),
}
LICENCES = ("license", "third-party-programs", "eula", "_tpp")


def unpack(folder, wheel):
    name = os.path.basename(wheel).split("-")[0]
    missing = set(WANTED.get(name) or sys.exit(f"{wheel}: not a wheel that is wanted here"))
    with zipfile.ZipFile(wheel) as archive:
        for member in archive.namelist():
            base = os.path.basename(member)
            matches = [p for p in WANTED[name] if fnmatch.fnmatchcase(base, p)] if "/data/lib/" in member else []
            missing.difference_update(matches)
            if matches:
                target = os.path.join(folder, "lib", base)
            elif any(word in base.lower() for word in LICENCES):
                target = os.path.join(folder, "licences", f"{name}-{base}")
            else:
                continue
            os.makedirs(os.path.dirname(target), exist_ok=True)
            with open(target, "wb") as out:
                out.write(archive.read(member))
    if missing:
        sys.exit(f"{wheel}: no {', '.join(sorted(missing))} inside: the wheel has changed")


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    for wheel in sys.argv[2:]:
        unpack(sys.argv[1], wheel)
