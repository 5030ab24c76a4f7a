// The errors that the device returns and those that a fault can name, with the words of CUDA's runtime library; a test
// compares them with that.
#define CUDA_ERRORS(E) \
    E(cudaErrorInvalidValue, 1, "invalid argument") \
    E(cudaErrorMemoryAllocation, 2, "out of memory") \
    E(cudaErrorInitializationError, 3, "initialization error") \
    E(cudaErrorInvalidConfiguration, 9, "invalid configuration argument") \
    E(cudaErrorInsufficientDriver, 35, "CUDA driver version is insufficient for CUDA runtime version") \
    E(cudaErrorDevicesUnavailable, 46, "CUDA-capable device(s) is/are busy or unavailable") \
    E(cudaErrorInvalidDeviceFunction, 98, "invalid device function") \
    E(cudaErrorNoDevice, 100, "no CUDA-capable device is detected") \
    E(cudaErrorInvalidDevice, 101, "invalid device ordinal") \
    E(cudaErrorInvalidKernelImage, 200, "device kernel image is invalid") \
    E(cudaErrorNoKernelImageForDevice, 209, "no kernel image is available for execution on the device") \
    E(cudaErrorECCUncorrectable, 214, "uncorrectable ECC error encountered") \
    E(cudaErrorInvalidPtx, 218, "a PTX JIT compilation failed") \
    E(cudaErrorNvlinkUncorrectable, 220, "uncorrectable NVLink error detected during the execution") \
    E(cudaErrorInvalidResourceHandle, 400, "invalid resource handle") \
    E(cudaErrorSymbolNotFound, 500, "named symbol not found") \
    E(cudaErrorNotReady, 600, "device not ready") \
    E(cudaErrorIllegalAddress, 700, "an illegal memory access was encountered") \
    E(cudaErrorLaunchOutOfResources, 701, "too many resources requested for launch") \
    E(cudaErrorLaunchTimeout, 702, "the launch timed out and was terminated") \
    E(cudaErrorAssert, 710, "device-side assert triggered") \
    E(cudaErrorHardwareStackError, 714, "hardware stack error") \
    E(cudaErrorIllegalInstruction, 715, "an illegal instruction was encountered") \
    E(cudaErrorMisalignedAddress, 716, "misaligned address") \
    E(cudaErrorInvalidAddressSpace, 717, "operation not supported on global/shared address space") \
    E(cudaErrorInvalidPc, 718, "invalid program counter") \
    E(cudaErrorLaunchFailure, 719, "unspecified launch failure") \
    E(cudaErrorNotSupported, 801, "operation not supported") \
    E(cudaErrorUnknown, 999, "unknown error")
