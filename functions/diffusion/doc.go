// Package diffusion holds the schedulers that turn model outputs into latents: noise tables, timesteps, sigmas and
// the update of each denoising step. It does no I/O; the arithmetic over tensors runs in bindings/kernels.
//
// The reference is diffusers 0.42.1 on the torch CPU backend. Every scheduler reads the same scheduler_config.json
// and gives the same timesteps, sigmas and samples; each type names its diffusers class and its paper. A key or a
// value that would change the numbers and is not supported is an error, never a default.
//
// How it computes: the tables (betas, cumulative products, sigmas) follow the precision of the reference, which is
// mostly float32. The coefficients of a step are then derived from the float32 tables in float64, once, in Begin,
// and rounded to float32 for the kernels. A step is one linear combination of sample, model output, earlier outputs
// and noise, with the guidance fused in.
//
// Details that cost an error in the picture when they are done differently:
//   - torch.cumprod of a float32 tensor accumulates in float64 and rounds every element.
//   - torch.linspace fills from both ends with one rounding an element; numpy.linspace sets its last element exactly.
//   - numpy rounds half to even, so timesteps do.
//   - Euler with timestep spacing linspace keeps fractional timesteps; the others round.
//   - The previous timestep of DDIM and PNDM is t - train/steps, not the next entry of the schedule.
//   - FlowMatch applies a fixed shift twice: to the training table, whose ends bound the schedule, and to the schedule.
//   - Karras and exponential sigmas span the interpolated sigmas of the chosen timesteps in Euler and FlowMatch,
//     the whole training table in DPM-Solver and UniPC.
//   - sigma_min and sigma_max of an Euler configuration survive a change of class, because diffusers keeps unread
//     keys in the configuration and its Karras conversion looks them up there.
//   - PNDM calls the model once more than the steps say.
//
// Where the agreement ends: torch's square root is up to one unit in the last place off, by machine. That shows
// where the reference cancels to a few digits in float32: the last steps of a cosine or linear schedule rescaled to
// zero terminal SNR, the first step of Euler ancestral from a sigma in the thousands, of PNDM with v_prediction from
// the last timestep of a cosine schedule, solvers of the noise (dpmsolver, predict_x0 false) at zero terminal SNR, and
// order 3 with many steps and outputs without any pattern.
// There the difference is 1e-5 to 1e-3 of the largest value; elsewhere a step agrees to 1e-5. By the same cause a
// timestep that DPM-Solver or UniPC truncate or round from an exponential, lu or Karras sigma can differ by one.
package diffusion
