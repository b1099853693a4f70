//! Every parameter's name and shape, as published on the hub.

use crate::config::Config;

/// The hub's name of a tensor: undoes the names transformers ≥ 4.52 uses in memory (`model.visual.*`,
/// `model.language_model.*`), which some tools write to files.
///
/// ```
/// # use imagent_models::checkpoint::hub_name;
/// assert_eq!(hub_name("model.language_model.norm.weight"), "model.norm.weight");
/// assert_eq!(hub_name("model.visual.merger.ln_q.weight"), "visual.merger.ln_q.weight");
/// assert_eq!(hub_name("lm_head.weight"), "lm_head.weight");
/// ```
pub fn hub_name(name: &str) -> String {
    if let Some(rest) = name.strip_prefix("model.language_model.") {
        format!("model.{rest}")
    } else if name.starts_with("model.visual.") {
        name["model.".len()..].to_owned()
    } else {
        name.to_owned()
    }
}

/// Hub name and shape of every parameter, in the model's order: tower, language model, head (unless tied).
/// Linear weights are `[out, in]`.
pub fn names(config: &Config) -> Vec<(String, Vec<usize>)> {
    let mut list = List(Vec::new());
    vision(config, &mut list);
    text(config, &mut list);
    list.0
}

struct List(Vec<(String, Vec<usize>)>);

impl List {
    fn weight(&mut self, name: String, shape: &[usize]) {
        self.0.push((format!("{name}.weight"), shape.to_vec()));
    }

    /// Weight `[output, input]` and bias `[output]`.
    fn linear(&mut self, name: String, output: usize, input: usize) {
        self.weight(name.clone(), &[output, input]);
        self.0.push((format!("{name}.bias"), vec![output]));
    }
}

fn vision(config: &Config, list: &mut List) {
    let v = &config.vision;
    let (h, inner) = (v.hidden_size, v.intermediate_size);
    let kernel = [h, v.in_channels, v.temporal_patch_size, v.patch_size, v.patch_size];
    list.weight("visual.patch_embed.proj".into(), &kernel);
    for block in (0..v.depth).map(|i| format!("visual.blocks.{i}")) {
        list.weight(format!("{block}.norm1"), &[h]);
        list.weight(format!("{block}.norm2"), &[h]);
        list.linear(format!("{block}.attn.qkv"), 3 * h, h);
        list.linear(format!("{block}.attn.proj"), h, h);
        list.linear(format!("{block}.mlp.gate_proj"), inner, h);
        list.linear(format!("{block}.mlp.up_proj"), inner, h);
        list.linear(format!("{block}.mlp.down_proj"), h, inner);
    }
    let merged = h * v.spatial_merge_size * v.spatial_merge_size;
    list.weight("visual.merger.ln_q".into(), &[h]);
    list.linear("visual.merger.mlp.0".into(), merged, merged);
    list.linear("visual.merger.mlp.2".into(), v.out_hidden_size, merged);
}

fn text(config: &Config, list: &mut List) {
    let t = &config.text;
    let (h, kv, inner) = (t.hidden_size, t.kv_heads * t.head_dim(), t.intermediate_size);
    list.weight("model.embed_tokens".into(), &[t.vocab_size, h]);
    for layer in (0..t.layers).map(|i| format!("model.layers.{i}")) {
        list.linear(format!("{layer}.self_attn.q_proj"), h, h);
        list.linear(format!("{layer}.self_attn.k_proj"), kv, h);
        list.linear(format!("{layer}.self_attn.v_proj"), kv, h);
        list.weight(format!("{layer}.self_attn.o_proj"), &[h, h]);
        list.weight(format!("{layer}.mlp.gate_proj"), &[inner, h]);
        list.weight(format!("{layer}.mlp.up_proj"), &[inner, h]);
        list.weight(format!("{layer}.mlp.down_proj"), &[h, inner]);
        list.weight(format!("{layer}.input_layernorm"), &[h]);
        list.weight(format!("{layer}.post_attention_layernorm"), &[h]);
    }
    list.weight("model.norm".into(), &[h]);
    if !t.tie_word_embeddings {
        list.weight("lm_head".into(), &[t.vocab_size, h]);
    }
}
