trl rloo --model_name_or_path Qwen/Qwen3-0.6B --dataset_name AI-MO/NuminaMath-TIR \
  --dataset_train_split "train[:5%]" --reward_funcs accuracy_reward --num_generations 4 \
  --per_device_train_batch_size 8 --beta 0.05 --max_completion_length 1024 --use_peft --lora_r 8
