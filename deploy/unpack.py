"""Unpacks what is needed of NVIDIA's, Intel's and ONNX Runtime's wheels: unpack.py FOLDER WHEEL...

FOLDER/lib gets the libraries and their own files, FOLDER/include the headers that tests compare the bindings with,
FOLDER/licences the licences: one layout for wheels that have different ones.
"""

import fnmatch
import os
import sys
import zipfile

# By the start of a wheel's name, for CUDA without the line. NVRTC needs no header: the kernels include none of CUDA's.
# Intel's wheels hold each library under several names, as copies, and much that is not needed here.
WANTED = {
    "nvidia_cuda_runtime": ("libcudart.so.*", "cuda.h", "cuda_runtime_api.h", "driver_types.h", "vector_types.h"),
    "nvidia_cuda_nvrtc": ("libnvrtc.so.*", "libnvrtc-builtins.so.*", "nvrtc.h"),
    "nvidia_nvml_dev": ("nvml.h",),  # the library is the driver's
    "intel_opencl_rt": ("libOpenCL.so.1", "libintelocl.so", "libcommon_clang.so.*", "libocl_svml_*.so", "clbltfn*.rtl", "cllibrary*", "cl.cfg"),
    "intel_cmplr_lib_rt": ("libimf.so", "libintlc.so.5", "libirng.so", "libsvml.so"),
    "tbb": ("libtbb.so.12",),
    "onnxruntime": ("libonnxruntime.so.*", "libonnxruntime_providers_shared.so"),
    "onnxruntime_gpu": ("libonnxruntime.so.*", "libonnxruntime_providers_shared.so", "libonnxruntime_providers_cuda.so"),
    "nvidia_cublas": ("libcublas.so.*", "libcublasLt.so.*"),
    "nvidia_cudnn_cu13": ("libcudnn*.so.*",),
    "nvidia_cufft": ("libcufft.so.*",),
    "nvidia_curand": ("libcurand.so.*",),
    "nvidia_nvjitlink": ("libnvJitLink.so.*",),
}
LICENCES = ("license", "third-party-programs", "thirdpartynotices", "eula", "_tpp")
# The folders of libraries and headers in a wheel, with what they are called here.
PLACES = {"lib": "lib", "include": "include", "capi": "lib"}


def unpack(folder, wheel):
    name = os.path.basename(wheel).split("-")[0]
    patterns = WANTED.get(name.removesuffix("_cu12")) or sys.exit(f"{wheel}: not a wheel that is wanted here")
    missing = set(patterns)
    with zipfile.ZipFile(wheel) as archive:
        for member in archive.namelist():
            place, base = os.path.split(member)
            kind = PLACES.get(os.path.basename(place))
            matches = [p for p in patterns if fnmatch.fnmatchcase(base, p)] if kind else []
            missing.difference_update(matches)
            if matches:
                target = os.path.join(folder, kind, base)
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
