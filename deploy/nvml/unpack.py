"""Unpacks nvml.h of NVIDIA's wheels: unpack.py FOLDER WHEEL...

FOLDER/13/nvml.h and FOLDER/12/nvml.h are those of the two lines, FOLDER/13 and FOLDER/12 have the licences too.
"""

import os
import sys
import zipfile

# By the start of a wheel's name.
LINES = {"nvidia_nvml_dev": "13", "nvidia_nvml_dev_cu12": "12"}
WANTED = ("nvml.h", "License.txt")


def unpack(folder, wheel):
    line = LINES.get(os.path.basename(wheel).split("-")[0]) or sys.exit(f"{wheel}: not a wheel that is wanted here")
    missing = set(WANTED)
    os.makedirs(os.path.join(folder, line), exist_ok=True)
    with zipfile.ZipFile(wheel) as archive:
        for member in archive.namelist():
            base = os.path.basename(member)
            if base in WANTED:
                missing.discard(base)
                with open(os.path.join(folder, line, base), "wb") as out:
                    out.write(archive.read(member))
    if missing:
        sys.exit(f"{wheel}: no {', '.join(sorted(missing))} inside: the wheel has changed")


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    for wheel in sys.argv[2:]:
        unpack(sys.argv[1], wheel)
