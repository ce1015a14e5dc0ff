#!/bin/bash
MODEL=${1:-Qwen/Qwen2.5-3B-Instruct}
llamafactory-cli train --stage dpo --do_train True --model_name_or_path "$MODEL" \
  --finetuning_type lora --lora_rank 8 --pref_loss simpo --pref_beta 2.0 --simpo_gamma 1.0 \
  --dataset pairs --dataset_dir data --template qwen --cutoff_len 1024 \
  --per_device_train_batch_size 2 --gradient_accumulation_steps 4 --learning_rate 1e-6 --max_steps 200
