accelerate launch --config_file zero2.yaml --num_processes 4 trl/scripts/dpo.py \
    --model_name_or_path Qwen/Qwen2-0.5B-Instruct \
    --dataset_name trl-lib/ultrafeedback_binarized \
    --per_device_train_batch_size 2 --gradient_accumulation_steps 8 \
    --learning_rate 5.0e-7 --max_steps 1000 --beta 0.05 \
    --loss_type ipo --max_length 1024 --no_remove_unused_columns \
    --output_dir Qwen2-0.5B-DPO
