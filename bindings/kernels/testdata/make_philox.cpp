// Writes philox.bin: what PyTorch's kernel of noise for CUDA devices (ATen/native/cuda/DistributionTemplates.h) would fill
// arrays with, computed on a CPU by NVIDIA's own headers of cuRAND, from the wheels nvidia-curand, nvidia-cuda-runtime
// nvidia-cuda-crt and nvidia-cuda-cccl (whose include folders are -I; the branch for CPUs is taken):
//
//	g++ -O1 -ffp-contract=off -I nvidia/cu13/include -I nvidia/cu13/include/cccl make_philox.cpp -o make_philox && ./make_philox >philox.bin
//
// The devices, sizes, seed and calls are those of philox_test.go.
#define QUALIFIERS static inline
#include <cuda_runtime_api.h>
#include <curand_kernel.h>

#include <algorithm>
#include <cstdio>
#include <vector>

int main() {
	const unsigned long long seed = 0x1234567887654321;
	for (long most : {512L, 132L * 2048})
		for (long n : {1, 255, 257, 600, 2100}) {
			unsigned long long offset = 0;
			for (int call = 0; call < 2; call++) {
				const long threads = std::min(most, (n + 255) / 256 * 256);
				std::vector<float> values(n);
				for (long t = 0; t < threads; t++) {
					curandStatePhilox4_32_10_t state;
					curand_init(seed, t, offset, &state);
					for (long first = t; first < (n - 1) / (4 * threads) * 4 * threads + 4 * threads; first += 4 * threads) {
						const float4 four = curand_normal4(&state);
						const float v[4] = {four.x, four.y, four.z, four.w};
						for (int k = 0; k < 4; k++)
							if (first + k * threads < n)
								values[first + k * threads] = v[k];
					}
				}
				offset += ((n - 1) / (4 * threads) + 1) * 4;
				fwrite(values.data(), sizeof(float), n, stdout);
			}
		}
}
