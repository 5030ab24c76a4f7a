package fault

// What the machine around the device says: the C++ and C libraries, the loader, the kernel, Go's runtime.
var hostRows = []row{
	{
		name: "host_out_of_memory", verdict: hostMemory,
		texts: []string{
			"bad_alloc", "bad allocation", "bad_array_new_length", "cannot allocate memory", "could not allocate memory", "failed to allocate ", "failed to reserve memory",
			"runtime: out of memory", "memory allocation failed", "can't alloc",
		},
		message: "the instance's machine has no memory left", advice: adviceHostMemory,
		source: "operator new, ENOMEM of libc, OpenVINO's allocator.cpp and its CPU plugin under a limit of memory; openvino issue 34345, bes-dev/stable_diffusion.openvino issue 132",
	},
	{
		name: "host_threads", verdict: hostTrouble,
		title:   "Resource limit exceeded",
		texts:   []string{"resource temporarily unavailable", "failed to create new os thread", "pthread_create failed", "may need to increase max user processes"},
		message: "the operating system gives the runner no more threads",
		advice:  "Raise the limit of processes and threads for the instance (ulimit -u, or the container's pids limit).",
		source:  "EAGAIN of pthread_create(3); Go runtime os_linux.go newosproc",
	},
	{
		name: "host_files", verdict: hostTrouble,
		title:   "Resource limit exceeded",
		texts:   []string{"too many open files"},
		message: "the operating system gives the runner no more open files",
		advice:  "Raise the limit of open files for the instance (ulimit -n).",
		source:  "EMFILE, ENFILE",
	},
	{
		name: "host_disk_full", verdict: hostTrouble,
		title:   "Disk is full",
		texts:   []string{"no space left on device", "disk quota exceeded"},
		message: "the disk of the instance's machine is full",
		advice:  "Free space in the cache folder of the instance (--cache-dir) or where the detail says.",
		source:  "ENOSPC, EDQUOT",
	},
	{
		name: "host_library_missing", verdict: noDevice,
		texts:   []string{"cannot open shared object file", "symbol lookup error", "undefined symbol", "version `glibc", "version `glibcxx"},
		message: "a library that {device} needs is missing on the instance's machine, or does not fit",
		advice:  "The detail names the library. Install it in the version that is asked for.",
		source:  "dlopen(3), ld.so(8)",
	},
	{
		name: "host_permission", verdict: hostTrouble,
		title:   "Access refused by the machine",
		texts:   []string{"permission denied", "operation not permitted"},
		message: "the instance may not use a file or a device of its machine",
		advice:  "The detail names it. For GPUs the instance's user usually must be in the group \"render\", or the container must be given /dev/dri.",
		source:  "EACCES, EPERM",
	},
	{
		name: "host_file_missing", verdict: hostTrouble,
		title:   "File is missing",
		texts:   []string{"no such file or directory", "file was not found"},
		message: "a file is missing on the instance's machine",
		advice:  "The detail names it. If it belongs to a model, genfn model check tells more.",
		source:  "ENOENT",
	},
	{
		name: "host_io", verdict: hostTrouble,
		title:   "Disk error",
		texts:   []string{"input/output error", "stale file handle"},
		message: "a disk of the instance's machine fails",
		advice:  "Check the disk, or the network file system, that holds models and cache.",
		source:  "EIO, ESTALE",
	},
}

// Words that say only roughly what is wrong.
var generalRows = []row{
	{
		name: "out_of_memory", verdict: noRoomDirty,
		texts:   []string{"out of memory", "out_of_memory", "not enough memory", "insufficient memory"},
		message: "{device} has no memory left", advice: adviceSmaller,
		source: "whoever says so without a number; whether the device's or the machine's memory is meant does not follow from it",
	},
	{
		name: "openvino_build_failed", verdict: unsupported,
		texts:   []string{"programbuilder build failed", "program build failed", "failed to create program during kernel build", "failed to select implementation for"},
		message: "the model cannot be built for {device}", advice: adviceOther,
		source: "intel_gpu program_builder.cpp, kernels_cache.cpp, when no reason stands beside it; openvino issues 26476, 22979, 30977",
	},
	{
		name: "openvino_gpu_plugin", verdict: gpuError,
		texts:   []string{"[gpu] "},
		message: "{device} failed", advice: adviceDriver,
		source: "every text of the intel_gpu plugin begins so",
	},
}
