"""Unpacks the native part of OpenVINO wheels: unpack.py FOLDER WHEEL..."""

import os
import sys
import zipfile

# Libraries, headers and licences. The Python modules and the CMake files stay in the wheel.
WANTED = ("openvino/libs/", "openvino/include/", "openvino_tokenizers/lib/")
LICENCES = ("license", "third-party-programs", "copyright", "notice")


def wanted(name):
    if ".dist-info/" in name:
        return any(word in name.lower() for word in LICENCES)
    return name.startswith(WANTED)


def main(folder, wheels):
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as archive:
            names = [n for n in archive.namelist() if wanted(n) and not n.endswith("/")]
            if not any(".so" in os.path.basename(n) for n in names):
                sys.exit(f"{wheel}: no native library under {', '.join(WANTED)}: not an OpenVINO wheel for Linux")
            archive.extractall(folder, names)


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    main(sys.argv[1], sys.argv[2:])
