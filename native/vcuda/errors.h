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

// Those of NVML, with the words of its nvmlErrorString as far as they are known: it comes with a driver only.
#define NVML_ERRORS(E) \
    E(NVML_ERROR_UNINITIALIZED, 1, "Uninitialized") \
    E(NVML_ERROR_INVALID_ARGUMENT, 2, "Invalid Argument") \
    E(NVML_ERROR_NOT_SUPPORTED, 3, "Not Supported") \
    E(NVML_ERROR_NO_PERMISSION, 4, "Insufficient Permissions") \
    E(NVML_ERROR_NOT_FOUND, 6, "Not Found") \
    E(NVML_ERROR_INSUFFICIENT_SIZE, 7, "Insufficient Size") \
    E(NVML_ERROR_DRIVER_NOT_LOADED, 9, "Driver Not Loaded") \
    E(NVML_ERROR_TIMEOUT, 10, "Timeout") \
    E(NVML_ERROR_FUNCTION_NOT_FOUND, 13, "Function Not Found") \
    E(NVML_ERROR_GPU_IS_LOST, 15, "GPU is lost") \
    E(NVML_ERROR_RESET_REQUIRED, 16, "GPU requires reset") \
    E(NVML_ERROR_LIB_RM_VERSION_MISMATCH, 18, "Driver/library version mismatch") \
    E(NVML_ERROR_ARGUMENT_VERSION_MISMATCH, 25, "Argument version mismatch") \
    E(NVML_ERROR_UNKNOWN, 999, "Unknown Error")
