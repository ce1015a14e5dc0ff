deepspeed --module openrlhf.cli.train_dpo \
   --model.model_name_or_path OpenRLHF/Llama-3-8b-sft-mixture \
   --data.dataset OpenRLHF/preference_dataset_mixture2_and_safe_pku \
   --data.apply_chat_template --data.chosen_key chosen --data.rejected_key rejected \
   --data.max_len 8192 --train.batch_size 256 --train.micro_batch_size 1 \
   --adam.lr 5e-7 --model.beta 0.1 --model.ipo_enable --ds.zero_stage 3 \
   --ckpt.output_dir ./checkpoint/llama3-8b-dpo --ds.packing_samples
