// Package model reads and checks model folders in the layout of diffusers, optimum-intel and OpenVINO GenAI.
//
// A text-to-image folder holds model_index.json, scheduler/scheduler_config.json, and the components
// text_encoder, tokenizer, unet and vae_decoder (optionally vae_encoder), each with its network as
// openvino_model.xml beside openvino_model.bin, or as model.onnx, and its config.json. Every number comes from
// these files; a needed key that is missing makes the folder invalid, it is never guessed.
//
// Nothing native is loaded: Open finds damaged and unsupported folders by reading configs and the structure of
// the networks' XML.
package model
