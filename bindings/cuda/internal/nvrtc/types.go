package nvrtc

// Program is nvrtcProgram; 0 is null.
type Program uintptr

// Size is size_t.
type Size uintptr

// Status is nvrtcResult.
type Status int32
